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
func read(t *testing.T, cluster *kafka.Cluster, topic string) *kafka.Session {
	t.Helper()
	s, err := cluster.NewSession(t.Context(), "test", topic)
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

// A reader is a partition that is read.
type reader interface {
	Messages() <-chan *sarama.ConsumerMessage
}

// expect receives these values, in this order.
func expect(t *testing.T, p reader, values ...string) {
	t.Helper()
	for _, want := range values {
		select {
		case m, ok := <-p.Messages():
			if !ok || string(m.Value) != want {
				t.Fatalf("got %v (open: %v), want %q", m, ok, want)
			}
		case <-time.After(patience):
			t.Fatalf("waited in vain for %q", want)
		}
	}
}

// ended waits until Messages() is closed without another record.
func ended(t *testing.T, p reader) {
	t.Helper()
	select {
	case m, ok := <-p.Messages():
		if ok {
			t.Fatalf("got %q, want the end", m.Value)
		}
	case <-time.After(patience):
		t.Fatal("messages did not end")
	}
}

// A session reads up to the end, says so, and ends at the first fault: it does not go on by itself,
// not even if a topic of the same name has other records by then.
func TestSessionEndsAtAFault(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault    func(*kafkatest.Proxy)
		want     string
		recreate bool
	}{
		"connection lost": {func(p *kafkatest.Proxy) { p.Cut() }, "EOF|reset", true},
		"leader moved": {func(p *kafkatest.Proxy) {
			p.SetFault(func(r kafkatest.Request) kafkatest.Action {
				return kafkatest.Action{NotLeader: r.Key == kmsg.Fetch}
			})
		}, sarama.ErrNotLeaderForPartition.Error(), true},
		"one fetch is never answered": {func(p *kafkatest.Proxy) {
			p.SetFault(func(r kafkatest.Request) kafkatest.Action {
				if r.Key == kmsg.Fetch {
					return kafkatest.Action{DelayAnswer: time.Hour}
				}
				return kafkatest.Action{}
			})
		}, "timeout", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers, topic, proxy := proxied(t)
			s := read(t, at(t, proxy.Addr()), topic)
			expect(t, s, "a", "b")
			within(t, "reaching the end", func() bool { return s.Reached() == 2 })
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			test.fault(proxy)
			if test.recreate {
				within(t, "an error", func() bool { return s.Err() != nil })
				kafkatest.Recreate(t, brokers, topic, "other a", "other b", "other c")
			}
			ended(t, s)
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

// fetched returns a broker that answers the fetches from an offset on like this.
func fetched(t *testing.T, answer func(offset int64) kmsg.FetchResponseTopicPartition) string {
	t.Helper()
	return fake(t, kmsg.Fetch, func(request kmsg.Request) kmsg.Response {
		time.Sleep(10 * time.Millisecond)
		r := request.ResponseKind().(*kmsg.FetchResponse)
		asked := request.(*kmsg.FetchRequest).Topics[0]
		r.Topics = []kmsg.FetchResponseTopic{{Topic: asked.Topic, TopicID: asked.TopicID,
			Partitions: []kmsg.FetchResponseTopicPartition{answer(asked.Partitions[0].FetchOffset)}}}
		return r
	})
}

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
// it has records, and sends none, is given up.
func TestFetch(t *testing.T) {
	t.Parallel()
	const control = 0x20
	for name, c := range map[string]struct {
		batches [][]byte // of the answer to offset 0
		values  []string
		end     int64 // that is reached
		err     string
	}{
		"records":              {[][]byte{batch(0, 1, 0, "a"), batch(1, 1, 0, "b")}, []string{"a", "b"}, 2, ""},
		"a marker":             {[][]byte{batch(0, 1, 0, "a"), batch(1, 1, control, "x")}, []string{"a"}, 2, ""},
		"a hole at the end":    {[][]byte{batch(0, 5, 0, "a")}, []string{"a"}, 5, ""},
		"an emptied batch":     {[][]byte{batch(0, 7, 0)}, nil, 7, ""},
		"emptied, then one":    {[][]byte{batch(0, 7, 0), batch(7, 1, 0, "a")}, []string{"a"}, 8, ""},
		"one, then emptied":    {[][]byte{batch(0, 1, 0, "a"), batch(1, 7, 0)}, []string{"a"}, 8, ""},
		"one that is cut":      {[][]byte{batch(0, 1, 0, "a")[:65]}, nil, -1, "the partition goes on, but nothing arrives$"},
		"then one that is cut": {[][]byte{batch(0, 1, 0, "a"), batch(1, 1, 0, "b")[:65]}, []string{"a"}, 1, "the partition goes on, but nothing arrives$"},
		"nothing":              {nil, nil, -1, "at offset 0: the partition goes on, but nothing arrives$"},
		"a format of 2016":     {[][]byte{append(binary.BigEndian.AppendUint64(nil, 0), "\x00\x00\x00\x11\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"...)}, nil, -1, "format 0 or 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := read(t, at(t, fetched(t, func(offset int64) kmsg.FetchResponseTopicPartition {
				answer := kmsg.NewFetchResponseTopicPartition()
				answer.HighWatermark, answer.RecordBatches = max(c.end, 1), []byte{}
				if c.err != "" {
					answer.HighWatermark = 10
				}
				for _, b := range c.batches { // Kafka begins with the batch that has the offset
					if c.err != "" || int64(binary.BigEndian.Uint64(b))+int64(binary.BigEndian.Uint32(b[23:])) >= offset {
						answer.RecordBatches = append(answer.RecordBatches, b...)
					}
				}
				return answer
			})), "two")
			time.Sleep(100 * time.Millisecond) // for the first answer
			if n := s.Reached(); c.values != nil && n != -1 {
				t.Errorf("%d is reached before anything is received", n)
			}
			expect(t, s, c.values...)
			if c.err != "" {
				ended(t, s)
				wantError(t, s.Err(), `partition 0 of topic "two" .*`+c.err)
			}
			within(t, "the end", func() bool { return s.Reached() == c.end })
		})
	}
}

// A session that goes on where another one was knows another topic by what is at the last record's
// offset; only a record with a key can be gone from there.
func TestResume(t *testing.T) {
	t.Parallel()
	const control = 0x20
	c := batch(2, 1, 0, "c")
	for name, test := range map[string]struct {
		next    int64
		key     string // of the record that was read last
		batches []byte // from there on now
		ok      bool
	}{
		"the same":               {2, "", append(batch(1, 1, 0, "b"), c...), true},
		"another record":         {2, "", append(batch(1, 1, 0, "x"), c...), false},
		"a marker":               {2, "", append(batch(1, 1, control, "b"), c...), false},
		"compaction has been by": {2, "key", append(batch(1, 1, 0), c...), true},
		"a shorter partition":    {4, "", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := fetched(t, func(int64) kmsg.FetchResponseTopicPartition {
				answer := kmsg.NewFetchResponseTopicPartition()
				answer.HighWatermark, answer.RecordBatches = 3, test.batches
				return answer
			})
			kafkatest.Produce(t, addr, "two", "a", "b", "c")
			s, err := at(t, addr).NewSession(t.Context(), "test", "two")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			last := &sarama.ConsumerMessage{Offset: 1, Value: []byte("b"), Timestamp: time.UnixMilli(0)}
			if test.key != "" {
				last.Key = []byte(test.key)
			}
			b, err := s.Resume(0, test.next, last)
			if test.next > b.Newest {
				wantError(t, err, "^partition 0 of topic \"two\" ends at offset 3: the topic is another one")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.ConsumePartition("two", 0, test.next); err != nil {
				t.Fatal(err)
			}
			if test.ok {
				expect(t, s, "c")
				return
			}
			ended(t, s)
			if !errors.Is(s.Err(), kafka.ErrAnotherTopic) {
				t.Error(s.Err())
			}
		})
	}
}

// What a person has to change ends a reader at once, with a sentence.
func TestNotAllowedToRead(t *testing.T) {
	t.Parallel()
	answer := kmsg.NewFetchResponseTopicPartition()
	answer.ErrorCode, answer.RecordBatches = kerr.TopicAuthorizationFailed.Code, []byte{}
	addr := fetched(t, func(int64) kmsg.FetchResponseTopicPartition { return answer })
	kafkatest.Produce(t, addr, "two", "a")
	s := read(t, at(t, addr), "two")
	ended(t, s)
	if s.Reached() != -1 || kafka.KindOf(s.Err()) != kafka.Permanent {
		t.Errorf("reached %d, %v", s.Reached(), s.Err())
	}
	for _, toEnd := range []bool{true, false} {
		c := at(t, addr).NewConsumer(t.Context(), "test", kafka.Following{ToEnd: toEnd})
		ended(t, c.ConsumePartition("two", 0, sarama.OffsetOldest))
		wantError(t, c.Err(), `^this client .* lacks the right to READ topic "two", .* \(Kafka: .*\)$`)
		if !kafka.NotAllowed(c.Err()) || !errors.Is(c.Err(), sarama.ErrTopicAuthorizationFailed) {
			t.Errorf("%v is not what Kafka said", c.Err())
		}
		c.Close()
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
	state, err := cluster.EnsureTopic(t.Context(), "two", nil)
	if state.Partitions != 2 || err != nil {
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
	expect(t, read(t, cluster, "two"), "a")
	said := make(chan error, 10)
	consumer := cluster.NewConsumer(t.Context(), "test", kafka.Following{ToEnd: true, Say: func(_ int32, err error) { said <- err }})
	defer consumer.Close()
	first := consumer.ConsumePartition("two", 0, sarama.OffsetOldest)
	expect(t, first, "a")
	ended(t, first)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("partition 0 took %v", took)
	}
	consumer.ConsumePartition("two", 1, sarama.OffsetOldest)
	wantError(t, <-said, `partition 1 of topic "two".*leader`)
}

// A consumer goes on after faults without loss or repetition, and knows a topic that was made
// again: it says so, and goes on with that one.
func TestConsumerGoesOn(t *testing.T) {
	t.Parallel()
	brokers, topic, proxy := proxied(t)
	said := make(chan error, 100)
	c := at(t, proxy.Addr()).NewConsumer(t.Context(), "test", kafka.Following{Say: func(_ int32, err error) { said <- err }})
	t.Cleanup(c.Close)
	p := c.ConsumePartition(topic, 0, sarama.OffsetOldest)
	expect(t, p, "a", "b")
	for i := range 3 {
		proxy.Cut()
		value := fmt.Sprint("after cut ", i)
		kafkatest.Produce(t, brokers, topic, value)
		expect(t, p, value)
	}
	proxy.Refuse(true)
	proxy.Cut()
	kafkatest.Recreate(t, brokers, topic, "1", "2", "3", "4", "5", "6", "7")
	proxy.Refuse(false)
	expect(t, p, "1", "2", "3", "4", "5", "6", "7")
	for err := range said {
		if errors.Is(err, kafka.ErrAnotherTopic) {
			break
		}
	}
}

// toEnd reads a topic from an offset to its end.
func toEnd(t *testing.T, cluster *kafka.Cluster, topic string, from int64, values ...string) {
	t.Helper()
	c := cluster.NewConsumer(t.Context(), "test", kafka.Following{ToEnd: true})
	defer c.Close()
	p := c.ConsumePartition(topic, 0, from)
	expect(t, p, values...)
	ended(t, p)
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

// The ends are known while a question is answered, and why not while it is not.
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
		b, err := e.Ask(ctx)
		if err != nil || b.Offset != 2 || b.Asked.Before(asked) || e.Last() != b {
			t.Fatalf("got %+v, %v", b, err)
		}
	}
	proxy.Refuse(true)
	proxy.Cut()
	within(t, "being told that there is no answer", func() bool { return <-told != nil })
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if b, err := e.Ask(short); err == nil {
		t.Errorf("got %+v of a broker that is away", b)
	}
	proxy.Refuse(false)
	within(t, "being told that there is one", func() bool { return <-told == nil })
}
