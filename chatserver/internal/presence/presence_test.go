package presence_test

import (
	"slices"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/broker"
	"kafkachat/internal/kafkatest"
)

// Changes are to be seen within two seconds, and a little is allowed here; with allowed that must
// stay below a pod's next regular record, after five seconds.
const soon = 2500 * time.Millisecond

func TestPodsSeeEachOther(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	a := start(t, brokers, topic, "a")
	a.want(patience, "a:0")
	b := start(t, brokers, topic, "b")
	a.want(patience, "a:0", "b:0")
	b.want(patience, "a:0", "b:0")
	c := start(t, brokers, topic, "c")
	for _, p := range []*pod{a, b, c} {
		p.want(soon, "a:0", "b:0", "c:0")
	}

	for n := 1; n <= 3; n++ {
		b.people.Store(int64(n * 10))
		for _, p := range []*pod{a, b, c} {
			p.want(soon, "a:0", "b:"+itoa(n*10), "c:0")
		}
	}

	begun := time.Now()
	b.stop()
	if took := time.Since(begun); took > b.allowed(soon) {
		t.Errorf("leaving took %v", took)
	}
	a.want(soon, "a:0", "c:0")
	c.want(soon, "a:0", "c:0")
}

func TestListIsQuietWhenNothingChanges(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	a := start(t, brokers, topic, "a")
	start(t, brokers, topic, "b")
	a.want(patience, "a:0", "b:0")
	before := len(a.history())
	time.Sleep(8 * time.Second) // a regular record and more
	if now := a.history(); len(now) != before {
		t.Errorf("the list changed: %v", now)
	}
}

func TestPodsOfTheSameName(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	one := start(t, brokers, topic, "laptop")
	two := start(t, brokers, topic, "laptop")
	one.want(patience, "laptop:0", "laptop:0")
	two.want(patience, "laptop:0", "laptop:0")
	two.stop()
	one.want(patience, "laptop:0")
}

func TestKilledPodIsGone(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	a := start(t, brokers, topic, "a")
	c := start(t, brokers, topic, "c")
	kill := startProcess(t, brokers, topic, "killed")
	a.want(patience, "a:0", "c:0", "killed:7")
	kill()
	begun := time.Now()
	time.Sleep(6500 * time.Millisecond)
	a.people.Store(1) // the regular record after this one would be too late to find that the pod is gone
	a.want(patience, "a:1", "c:0")
	took := time.Since(begun)
	c.want(patience, "a:1", "c:0")
	if took > a.allowed(10*time.Second+slack) {
		t.Errorf("it took %v until the killed pod was gone", took)
	}
	t.Logf("gone after %v", took)
}

// While Kafka is away, or hangs, nobody is declared gone, and each pod still shows its own people.
func TestKafkaAway(t *testing.T) {
	t.Parallel()
	brokers, _ := kafkaFor(t)
	outages := []struct {
		name       string
		begin, end func(*kafkatest.Proxy)
		// Each has a chat of its own, and all are away at the same time.
		proxy        *kafkatest.Proxy
		a, b         *pod
		conns        int
		seenA, seenB int
	}{
		{
			name:  "refused",
			begin: func(p *kafkatest.Proxy) { p.Refuse(true); p.Cut() },
			end:   func(p *kafkatest.Proxy) { p.Refuse(false) },
		},
		{name: "hangs", begin: func(p *kafkatest.Proxy) { p.Pause(kafkatest.Both) }, end: (*kafkatest.Proxy).Resume},
		{name: "silent", begin: func(p *kafkatest.Proxy) { p.Pause(kafkatest.Answers) }, end: (*kafkatest.Proxy).Resume},
	}
	for i := range outages {
		o := &outages[i]
		o.proxy = kafkatest.NewProxy(t, brokers)
		topic := topicFor(t, brokers)
		o.a = start(t, o.proxy.Addr(), topic, "a")
		o.b = start(t, o.proxy.Addr(), topic, "b")
		o.a.want(patience, "a:0", "b:0")
		o.b.want(patience, "a:0", "b:0")
		o.conns = o.proxy.Conns()
		o.seenA, o.seenB = len(o.a.history()), len(o.b.history())
		o.begin(o.proxy)
	}
	time.Sleep(6 * time.Second)
	for _, o := range outages {
		o.a.people.Store(3)
		o.a.want(soon, "a:3", "b:0")
	}
	time.Sleep(6 * time.Second) // together longer than a pod may be silent
	for _, o := range outages {
		o.end(o.proxy)
	}
	for _, o := range outages {
		o.b.want(patience, "a:3", "b:0")
	}
	time.Sleep(3 * time.Second) // for records that say that this pod is heard again
	for _, o := range outages {
		for _, list := range slices.Concat(o.a.history()[o.seenA:], o.b.history()[o.seenB:]) {
			if len(list) != 2 {
				t.Errorf("%s: a pod was gone: %v", o.name, list)
			}
		}
		if now := o.proxy.Conns(); now > o.conns {
			t.Errorf("%s: %d connections, before the outage %d", o.name, now, o.conns)
		}
	}
}

// A pod that cannot reach Kafka is gone for the others, and knows nothing of them.
func TestPodCutOff(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	proxy := kafkatest.NewProxy(t, brokers)
	a := start(t, brokers, topic, "a")
	b := start(t, proxy.Addr(), topic, "b")
	a.want(patience, "a:0", "b:0")
	b.want(patience, "a:0", "b:0")

	proxy.Refuse(true)
	proxy.Cut()
	a.want(10*time.Second+slack, "a:0")
	b.want(0, "a:0", "b:0")
	a.people.Store(5)
	proxy.Refuse(false)
	a.want(patience, "a:5", "b:0")
	b.want(patience, "a:5", "b:0")
}

func TestConnectionsCutAgainAndAgain(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	proxy := kafkatest.NewProxy(t, brokers)
	proxy.SetFault(kafkatest.CutEach(1, 5, 30))
	a := start(t, proxy.Addr(), topic, "a")
	b := start(t, proxy.Addr(), topic, "b")
	for n := 1; n <= 10; n++ {
		b.people.Store(int64(n))
		a.want(patience, "a:0", "b:"+itoa(n))
	}
}

func TestTopicDeleted(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	a := start(t, brokers, topic, "a")
	b := start(t, brokers, topic, "b")
	a.want(patience, "a:0", "b:0")
	for n := 1; n <= 2; n++ {
		if err := admin(t, brokers).DeleteTopic(topic + ".pods"); err != nil {
			t.Fatal(err)
		}
		b.people.Store(int64(n))
		a.want(patience, "a:0", "b:"+itoa(n))
	}
	checkBounds(t, brokers, topic+".pods")
}

func TestKafkaComesBackEmpty(t *testing.T) {
	t.Parallel()
	first, err := broker.Start(broker.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	addr := first.Addr()
	a := start(t, addr, "chat", "a")
	b := start(t, addr, "chat", "b")
	a.want(patience, "a:0", "b:0")
	first.Close()
	time.Sleep(2 * time.Second)
	b.people.Store(1)
	second := startAt(t, addr)
	defer second.Close()
	a.want(patience, "a:0", "b:1")
	b.want(patience, "a:0", "b:1")
	c := start(t, addr, "chat", "c")
	a.want(patience, "a:0", "b:1", "c:0")
	for _, p := range []*pod{a, b, c} {
		p.stop()
	}
}

// startAt starts a broker at an address that was used before. Another test's connection may have got the port meanwhile, for a moment.
func startAt(t *testing.T, addr string) *broker.Broker {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		b, err := broker.Start(broker.Config{Addr: addr})
		if err != nil {
			t.Fatal(err)
		}
		if b.Addr() == addr {
			return b
		}
		b.Close()
	}
	t.Fatalf("%s is taken", addr)
	return nil
}

// A pod starts and stops whether Kafka is there or not, and shows itself.
func TestNoKafka(t *testing.T) {
	t.Parallel()
	a := start(t, "127.0.0.1:1", "chat", "a")
	a.want(patience, "a:0")
	a.people.Store(2)
	a.want(patience, "a:2")
	begun := time.Now()
	a.stop()
	if took := time.Since(begun); took > a.allowed(time.Second+slack) {
		t.Errorf("stopping took %v", took)
	}
}

func TestForeignRecordsAreIgnored(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	a := start(t, brokers, topic, "a")
	b := start(t, brokers, topic, "b")
	a.want(patience, "a:0", "b:0")
	kafkatest.Produce(t, brokers, topic+".pods", "", "hello", "{}", "null", "[1]", "\xff\xfe", `"x"`,
		`{"pod":"x","people":1,"seq":1}`, `{"pod":"","instance":"i","people":1,"seq":1}`,
		`{"pod":"x","instance":"i","people":-1,"seq":1}`, `{"pod":"x","instance":"i","people":1e99,"seq":1}`,
		`{"pod":"x","instance":"i","people":1,"seq":0}`,
		// These make sense, so that the list changes when all have been read; "gone" left before its late record came.
		`{"pod":"gone","instance":"j","people":1,"seq":1}`, `{"pod":"gone","instance":"j","seq":3,"goodbye":true}`,
		`{"pod":"gone","instance":"j","people":1,"seq":2}`, `{"pod":"z","instance":"k","people":4,"seq":1,"more":true}`)
	a.want(patience, "a:0", "b:0", "z:4")
	b.want(patience, "a:0", "b:0", "z:4")
	a.want(patience, "a:0", "b:0") // z never speaks again
}

func TestTopicIsBounded(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	a := start(t, brokers, topic, "a")
	b := start(t, brokers, topic, "b")
	a.want(patience, "a:0", "b:0")
	b.stop()
	checkBounds(t, brokers, topic+".pods")
}

func checkBounds(t *testing.T, brokers, topic string) {
	t.Helper()
	entries, err := admin(t, brokers).DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, e := range entries {
		got[e.Name] = e.Value
	}
	for name, want := range map[string]string{"cleanup.policy": "delete", "retention.bytes": "1048576", "segment.bytes": "1048576"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if ms := got["retention.ms"]; ms != "600000" && ms != "-1" { // the embedded broker knows no time
		t.Errorf("retention.ms is %q", ms)
	}
}
