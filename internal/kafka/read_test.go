package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/wire"
)

// read returns a session that reads a topic's partition 0 from its beginning until the test ends.
func read(t *testing.T, cluster *kafka.Cluster, topic string, adjust ...func(*sarama.Config)) *kafka.Session {
	t.Helper()
	s, err := cluster.NewSession(t.Context(), "test", topic, adjust...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err = s.ConsumePartition(topic, 0, sarama.OffsetOldest); err != nil {
		t.Fatal(err)
	}
	return s
}

// proxied returns a broker, a topic of it with the records a and b, and a proxy in front of it.
func proxied(t *testing.T) (brokers, topic string, proxy *kafkatest.Proxy) {
	t.Helper()
	brokers = kafkatest.Broker(t)
	topic = kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "a", "b")
	return brokers, topic, kafkatest.NewProxy(t, brokers)
}

const end = "(the end)" // as a value for expect: Messages() is closed

// expect receives these values, in this order.
func expect(t *testing.T, p interface {
	Messages() <-chan *sarama.ConsumerMessage
}, values ...string) {
	t.Helper()
	for _, want := range values {
		select {
		case m, ok := <-p.Messages():
			got := end
			if ok {
				got = string(m.Value)
			}
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("waited in vain for %q", want)
		}
	}
}

// follow returns a consumer of a topic's partition 0 that ends with the test.
func follow(t *testing.T, cluster *kafka.Cluster, topic string, from int64, how kafka.Following) (*kafka.Consumer, *kafka.Partition) {
	c := cluster.NewConsumer(t.Context(), "test", how)
	t.Cleanup(c.Close)
	return c, c.ConsumePartition(topic, 0, from)
}

// A session reads up to the end, says so, and ends at the first fault: it does not go on by itself,
// not even if a topic of the same name has other records by then.
func TestSessionEndsAtAFault(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fetch kafkatest.Action // what happens to fetches; nothing: the connection is cut
		want  string
	}{
		"connection lost":             {kafkatest.Action{}, "EOF|reset|pipe"},
		"leader moved":                {kafkatest.Action{NotLeader: true}, sarama.ErrNotLeaderForPartition.Error()},
		"one fetch is never answered": {kafkatest.Action{DelayAnswer: time.Hour}, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers, topic, proxy := proxied(t)
			s := read(t, at(t, proxy.Addr()), topic)
			expect(t, s, "a", "b")
			within(t, "^2$", func() any { return s.Reached() })
			proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
				if r.Key == kmsg.Fetch {
					return test.fetch
				}
				return kafkatest.Action{}
			})
			if test.fetch == (kafkatest.Action{}) {
				proxy.Cut()
			}
			within(t, "^[^<]", func() any { return s.Err() })
			kafkatest.Recreate(t, brokers, topic, "other a", "other b", "other c")
			expect(t, s, end)
			wantError(t, s.Err(), `reading partition 0 of topic ".*" at offset 2: .*(`+test.want+")")
		})
	}
}

// fake returns the address of a broker that has the topic "two" with two partitions, and answers
// requests of this kind as a test wishes; nil answers are its own.
func fake(t *testing.T, key kmsg.Key, answer func(kmsg.Request) kmsg.Response) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "two"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.ControlKey(key.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		response := answer(request)
		return response, nil, response != nil
	})
	return c.ListenAddrs()[0]
}

// fetched returns a broker that answers each fetch like this: with an error, or with those batches
// that end at the offset that is asked for or after it, and with where the partition ends.
func fetched(t *testing.T, code int16, highWatermark int64, batches ...[]byte) string {
	t.Helper()
	return fake(t, kmsg.Fetch, func(request kmsg.Request) kmsg.Response {
		time.Sleep(10 * time.Millisecond)
		asked := request.(*kmsg.FetchRequest).Topics[0]
		answer := kmsg.NewFetchResponseTopicPartition()
		answer.ErrorCode, answer.HighWatermark, answer.RecordBatches = code, highWatermark, []byte{}
		for _, b := range batches {
			if int64(binary.BigEndian.Uint64(b))+int64(binary.BigEndian.Uint32(b[23:])) >= asked.Partitions[0].FetchOffset {
				answer.RecordBatches = append(answer.RecordBatches, b...)
			}
		}
		r := request.ResponseKind().(*kmsg.FetchResponse)
		r.Topics = []kmsg.FetchResponseTopic{{Topic: asked.Topic, TopicID: asked.TopicID, Partitions: []kmsg.FetchResponseTopicPartition{answer}}}
		return r
	})
}

const control = 0x20 // the attribute of a batch with a marker

// batch is one from an offset on, of as many offsets; a value has the first of them.
func batch(first int64, offsets int32, attributes int16, values ...string) []byte {
	b := kmsg.RecordBatch{FirstOffset: first, Magic: 2, Attributes: attributes, LastOffsetDelta: offsets - 1, NumRecords: int32(len(values))}
	for _, v := range values {
		r := kmsg.Record{Value: []byte(v)}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		b.Records = r.AppendTo(b.Records)
	}
	return wire.AppendBatch(nil, b)
}

// What no consumer sees counts as reached, and what is missing is never skipped: a broker that says
// it has records, and sends none, is given up, and has answered nothing.
func TestFetch(t *testing.T) {
	t.Parallel()
	a, stalled := batch(0, 1, 0, "a"), "the broker has more records, but nothing arrives$"
	for name, c := range map[string]struct {
		batches [][]byte
		values  []string
		reached int64
		err     string // with it, or if nothing is reached, there are more records
	}{
		"a marker":             {[][]byte{a, batch(1, 1, control, "x")}, []string{"a"}, 2, ""},
		"a hole at the end":    {[][]byte{batch(0, 5, 0, "a")}, []string{"a"}, 5, ""},
		"emptied, then one":    {[][]byte{batch(0, 7, 0), batch(7, 1, 0, "a")}, []string{"a"}, 8, ""},
		"one, then emptied":    {[][]byte{a, batch(1, 7, 0)}, []string{"a"}, 8, ""},
		"then one that is cut": {[][]byte{a, batch(1, 1, 0, "b")[:65]}, []string{"a", end}, 1, stalled},
		"nothing":              {nil, nil, -1, ""}, // though the partition has 10
		"a format of 2016":     {[][]byte{make([]byte, 29)}, []string{end}, -1, "format 0 or 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			highWatermark := c.reached
			if c.err != "" || c.reached < 0 {
				highWatermark = 10
			}
			s := read(t, at(t, fetched(t, 0, highWatermark, c.batches...)), "two")
			time.Sleep(100 * time.Millisecond) // for the first answer
			if n := s.Reached(); n != -1 {
				t.Errorf("%d is reached before anything is received", n)
			}
			expect(t, s, c.values...)
			if c.err != "" {
				wantError(t, s.Err(), `partition 0 of topic "two" .*`+c.err)
			}
			within(t, fmt.Sprintf("^%d$", c.reached), func() any { return s.Reached() })
		})
	}
}

// A session that goes on where another one was knows another topic by what is at the last record's
// offset; only a record with a key can be gone from there.
func TestResume(t *testing.T) {
	t.Parallel()
	last := sarama.ConsumerMessage{Offset: 1, Value: []byte("b"), Timestamp: time.UnixMilli(0)}
	keyed := last
	keyed.Key = []byte("key")
	for name, test := range map[string]struct {
		last  sarama.ConsumerMessage
		now   []byte // the batch at its offset
		value string
	}{
		"the same":               {last, batch(1, 1, 0, "b"), "c"},
		"another record":         {last, batch(1, 1, 0, "x"), end},
		"a marker":               {last, batch(1, 1, control, "b"), end},
		"compaction has been by": {keyed, batch(1, 1, 0), "c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := fetched(t, 0, 3, test.now, batch(2, 1, 0, "c"))
			kafkatest.Produce(t, addr, "two", "a", "b", "c")
			s, err := at(t, addr).NewSession(t.Context(), "test", "two")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			_, err = s.Resume(0, 4, nil)
			wantError(t, err, `^partition 0 of topic "two" ends at offset 3: the topic is another one`)
			if _, err := s.Resume(0, 2, &test.last); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ConsumePartition("two", 0, 2); err != nil {
				t.Fatal(err)
			}
			if expect(t, s, test.value); errors.Is(s.Err(), kafka.ErrAnotherTopic) != (test.value == end) {
				t.Error(s.Err())
			}
		})
	}
}

// A topic may be made anew while a slow receiver keeps a session from sending a fetch. Then the
// session notices by its newest record; a receiver that was only slow gets each record once.
func TestTopicMadeAgainBetweenFetches(t *testing.T) {
	t.Parallel()
	brokers, topic, _ := proxied(t)
	kafkatest.Produce(t, brokers, topic, "c")
	s := read(t, at(t, brokers), topic, func(c *sarama.Config) { c.ChannelBufferSize = 1 })
	expect(t, s, "a")
	time.Sleep(2 * time.Second)
	kafkatest.Produce(t, brokers, topic, "d")
	expect(t, s, "b", "c", "d")
	kafkatest.Produce(t, brokers, topic, "e", "f", "g")
	expect(t, s, "e")
	time.Sleep(2 * time.Second)
	kafkatest.Recreate(t, brokers, topic, "0", "1", "2", "3", "4", "5", "6", "7")
	if expect(t, s, "f", "g", end); !errors.Is(s.Err(), kafka.ErrAnotherTopic) {
		t.Error(s.Err())
	}
}

// What a person has to change ends a reader at once, with a sentence.
func TestNotAllowedToRead(t *testing.T) {
	t.Parallel()
	addr := fetched(t, kerr.TopicAuthorizationFailed.Code, 1)
	kafkatest.Produce(t, addr, "two", "a")
	s := read(t, at(t, addr), "two")
	expect(t, s, end)
	if s.Reached() != -1 || kafka.KindOf(s.Err()) != kafka.Permanent {
		t.Errorf("reached %d, %v", s.Reached(), s.Err())
	}
	for _, toEnd := range []bool{true, false} {
		c, p := follow(t, at(t, addr), "two", sarama.OffsetOldest, kafka.Following{ToEnd: toEnd})
		expect(t, p, end)
		wantError(t, c.Err(), `^this client .* lacks the right to READ topic "two", .* \(Kafka: .*\)$`)
		if !kafka.NotAllowed(c.Err()) || !errors.Is(c.Err(), sarama.ErrTopicAuthorizationFailed) {
			t.Errorf("%v is not what Kafka said", c.Err())
		}
	}
}

// Partition 0 works at once while the broker of partition 1 is away; what is said about partition 1
// names it.
func TestOnePartitionIsAway(t *testing.T) {
	t.Parallel()
	var addr string
	addr = fake(t, kmsg.Metadata, func(request kmsg.Request) kmsg.Response {
		host, port, _ := net.SplitHostPort(addr)
		number, _ := strconv.Atoi(port)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr("two")
		topic.Partitions = []kmsg.MetadataResponseTopicPartition{
			{Partition: 0, Leader: 0, Replicas: []int32{0}},
			{Partition: 1, Leader: -1, Replicas: []int32{1}, ErrorCode: kerr.LeaderNotAvailable.Code},
		}
		r := request.ResponseKind().(*kmsg.MetadataResponse)
		r.Brokers, r.Topics = []kmsg.MetadataResponseBroker{{Host: host, Port: int32(number)}}, []kmsg.MetadataResponseTopic{topic}
		return r
	})
	began := time.Now()
	cluster := at(t, addr)
	if state, err := cluster.EnsureTopic(t.Context(), "two", nil); state.Partitions != 2 || err != nil {
		t.Fatalf("got %+v, %v", state, err)
	}
	producer, err := sarama.NewSyncProducer(cluster.Brokers, cluster.Config(t.Context(), "test"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "two", Value: sarama.StringEncoder("a")}); err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 10)
	c, p := follow(t, cluster, "two", sarama.OffsetOldest, kafka.Following{ToEnd: true, Say: func(_ int32, err error) { said <- err }})
	expect(t, p, "a", end)
	if took := time.Since(began); took > 30*time.Second { // it is for ever if sarama waits for partition 1
		t.Errorf("partition 0 took %v", took)
	}
	c.ConsumePartition("two", 1, sarama.OffsetOldest)
	within(t, `partition 1 of topic "two".*leader`, func() any { return <-said })
}

// A consumer goes on after a fault, and knows a topic that was made again: it says so, and goes on with
// that one.
func TestConsumerGoesOn(t *testing.T) {
	t.Parallel()
	brokers, topic, proxy := proxied(t)
	said := make(chan error, 100)
	_, p := follow(t, at(t, proxy.Addr()), topic, sarama.OffsetOldest, kafka.Following{Say: func(_ int32, err error) { said <- err }})
	expect(t, p, "a", "b")
	proxy.Cut()
	kafkatest.Produce(t, brokers, topic, "c")
	expect(t, p, "c")
	proxy.Refuse(true)
	proxy.Cut()
	kafkatest.Recreate(t, brokers, topic, "1", "2", "3", "4", "5")
	proxy.Refuse(false)
	expect(t, p, "1", "2", "3", "4", "5")
	within(t, kafka.ErrAnotherTopic.Error(), func() any { return <-said })
}

// The end is known while a question is answered, and why not while it is not.
func TestEnds(t *testing.T) {
	t.Parallel()
	_, topic, proxy := proxied(t)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan error, 100)
	e := at(t, proxy.Addr()).NewEnds("test", topic, 0, func(err error) { told <- err })
	done := make(chan struct{})
	go func() { e.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for range 2 {
		asked := time.Now()
		last, err := e.Ask(ctx)
		if err != nil || last.Offset != 2 || last.Asked.Before(asked) || e.Last().Offset != 2 {
			t.Fatalf("got %+v, %v", last, err)
		}
	}
	proxy.Refuse(true)
	proxy.Cut()
	within(t, "^[^<]", func() any { return <-told })
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if last, err := e.Ask(short); err == nil {
		t.Errorf("got %+v of a broker that is away", last)
	}
	proxy.Refuse(false)
	within(t, "^<nil>$", func() any { return <-told })
}
