package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
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

// patient makes a session wait for an answer: a session ends at the first request without one.
func patient(config *sarama.Config) { config.Net.ReadTimeout = time.Hour }

// read returns a session that reads a topic's partition 0 from its beginning until the test ends.
func read(t *testing.T, cluster *kafka.Cluster, topic string, adjust ...func(*sarama.Config)) *kafka.Session {
	t.Helper()
	s, err := cluster.NewSession(t.Context(), "test", topic, append(adjust, patient)...)
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
func expect(t *testing.T, messages <-chan *sarama.ConsumerMessage, values ...string) {
	t.Helper()
	for _, want := range values {
		got := end
		select {
		case m, ok := <-messages:
			if ok {
				got = string(m.Value)
			}
		case <-time.After(patience):
			got = "nothing"
		}
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// follow returns a consumer of a topic's partition 0 that ends with the test.
func follow(t *testing.T, cluster *kafka.Cluster, topic string, from int64, how kafka.Following) (*kafka.Consumer, *kafka.Partition) {
	c := cluster.NewConsumer(t.Context(), "test", how)
	t.Cleanup(c.Close)
	return c, c.ConsumePartition(topic, 0, from)
}

// fake returns a broker that has the topic "two" with two partitions.
func fake(t *testing.T) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "two"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fetched returns a fake that answers a fetch with the first batch that ends at its offset or later.
func fetched(t *testing.T, highWatermark int64, batches ...[]byte) string {
	t.Helper()
	c := fake(t)
	c.ControlKey(kmsg.Fetch.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		time.Sleep(10 * time.Millisecond)
		asked := request.(*kmsg.FetchRequest).Topics[0]
		answer := kmsg.NewFetchResponseTopicPartition()
		answer.HighWatermark, answer.RecordBatches = highWatermark, []byte{}
		for _, b := range batches {
			if int64(binary.BigEndian.Uint64(b))+int64(binary.BigEndian.Uint32(b[23:])) >= asked.Partitions[0].FetchOffset {
				answer.RecordBatches = b
				break
			}
		}
		r := request.ResponseKind().(*kmsg.FetchResponse)
		r.Topics = []kmsg.FetchResponseTopic{{Topic: asked.Topic, TopicID: asked.TopicID, Partitions: []kmsg.FetchResponseTopicPartition{answer}}}
		return r, nil, true
	})
	return c.ListenAddrs()[0]
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

// What no consumer sees counts as reached. A broker that has records and sends none is given up.
func TestFetch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ends    int64 // the partition
		batches [][]byte
		values  []string
		reached int64
	}{
		"a marker, a hole, and what compaction has emptied": {21,
			[][]byte{batch(0, 1, 0, "a"), batch(1, 1, control, "x"), batch(2, 7, 0), batch(9, 5, 0, "b"), batch(14, 7, 0)}, []string{"a", "b"}, 21},
		"the second one is cut": {2, [][]byte{batch(0, 1, 0, "a"), batch(1, 1, 0, "b")[:65]}, []string{"a"}, 1},
		"nothing":               {2, nil, nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := fetched(t, c.ends, c.batches...)
			kafkatest.Produce(t, addr, "two", make([]string, c.ends)...) // who asks for the end is told the same
			toEnd, p := follow(t, at(t, addr), "two", sarama.OffsetOldest, kafka.Following{ToEnd: true, Patience: time.Second})
			s := read(t, at(t, addr), "two")
			time.Sleep(100 * time.Millisecond) // for the first answer
			if n := s.Reached(); n != -1 {
				t.Errorf("%d is reached before anything is received", n)
			}
			expect(t, s.Messages(), c.values...)
			want := "^<nil>$"
			if c.reached < c.ends {
				want = "the broker has more records, but nothing arrives$"
				expect(t, s.Messages(), end)
			}
			within(t, fmt.Sprintf("^%d$", c.reached), func() any { return s.Reached() })
			wantError(t, s.Err(), want)
			expect(t, p.Messages(), append(c.values, end)...)
			wantError(t, toEnd.Err(), want)
		})
	}
}

// Another record at the last offset means another topic. Only a record with a key can be gone.
func TestResume(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key   []byte // of the last record
		now   []byte // the batch at its offset
		value string
	}{
		"a marker":               {nil, batch(1, 1, control, "b"), end},
		"compaction has been by": {[]byte("key"), batch(1, 1, 0), "c"},
	} {
		addr := fetched(t, 3, test.now, batch(2, 1, 0, "c"))
		kafkatest.Produce(t, addr, "two", "a", "b", "c")
		s, err := at(t, addr).NewSession(t.Context(), "test", "two", patient)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		_, err = s.Resume(0, 4, nil)
		wantError(t, err, `^partition 0 of topic "two" ends at offset 3: the topic is another one`)
		_, err = s.Resume(0, 2, &sarama.ConsumerMessage{Offset: 1, Key: test.key, Value: []byte("b"), Timestamp: time.UnixMilli(0)})
		if _, failed := s.ConsumePartition("two", 0, 2); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		if expect(t, s.Messages(), test.value); errors.Is(s.Err(), kafka.ErrAnotherTopic) != (test.value == end) {
			t.Errorf("%s: %v", name, s.Err())
		}
	}
}

// Behind a slow receiver a session knows a topic made anew by its newest record, and repeats none.
func TestTopicMadeAgainBetweenFetches(t *testing.T) {
	t.Parallel()
	brokers, topic, _ := proxied(t)
	kafkatest.Produce(t, brokers, topic, "c")
	slow := func(c *sarama.Config) { c.ChannelBufferSize = 1 } // the first answer has more records: no fetch comes until the test receives them
	s := read(t, at(t, brokers), topic, slow)
	expect(t, s.Messages(), "a")
	time.Sleep(2 * time.Second)
	kafkatest.Produce(t, brokers, topic, "d")
	expect(t, s.Messages(), "b", "c", "d")
	s = read(t, at(t, brokers), topic, slow)
	expect(t, s.Messages(), "a", "b")
	time.Sleep(2 * time.Second)
	kafkatest.Recreate(t, brokers, topic, "0", "1", "2", "3", "4", "5", "6", "7")
	if expect(t, s.Messages(), "c", "d", end); !errors.Is(s.Err(), kafka.ErrAnotherTopic) {
		t.Error(s.Err())
	}
}

// A session on a slow line gets on, though its newest record is compared again and again.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	_, topic, proxy := proxied(t)
	proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
		if r.Key == kmsg.Fetch {
			return kafkatest.Action{DelayAnswer: 2 * time.Second}
		}
		return kafkatest.Action{}
	})
	s := read(t, at(t, proxy.Addr()), topic, func(c *sarama.Config) { c.Consumer.Fetch.Default = 1 }) // a batch at a time
	expect(t, s.Messages(), "a", "b")
}

// What a person has to change ends a reader at once, with a sentence.
func TestNotAllowedToRead(t *testing.T) {
	t.Parallel()
	broker := fake(t)
	broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	c, p := follow(t, at(t, broker.ListenAddrs()[0]), "two", sarama.OffsetOldest, kafka.Following{})
	expect(t, p.Messages(), end)
	wantError(t, c.Err(), `^this client .* lacks the right to READ topic "two", .* \(Kafka: .*\)$`)
	if err := c.Err(); kafka.KindOf(err) != kafka.Permanent || !kafka.NotAllowed(err) {
		t.Errorf("%v is not what Kafka said", err)
	}
}

// Partition 0 works at once while partition 1's broker is away. What is said names partition 1.
func TestOnePartitionIsAway(t *testing.T) {
	t.Parallel()
	broker := fake(t)
	addr := netip.MustParseAddrPort(broker.ListenAddrs()[0])
	broker.ControlKey(kmsg.Metadata.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		topic := kmsg.MetadataResponseTopic{Topic: kmsg.StringPtr("two"), Partitions: []kmsg.MetadataResponseTopicPartition{
			{Partition: 0, Leader: 0, Replicas: []int32{0}},
			{Partition: 1, Leader: -1, Replicas: []int32{1}, ErrorCode: kerr.LeaderNotAvailable.Code},
		}}
		r := request.ResponseKind().(*kmsg.MetadataResponse)
		r.Brokers = []kmsg.MetadataResponseBroker{{Host: addr.Addr().String(), Port: int32(addr.Port())}}
		r.Topics = []kmsg.MetadataResponseTopic{topic}
		return r, nil, true
	})
	began := time.Now()
	cluster := at(t, addr.String())
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
	expect(t, p.Messages(), "a", end)
	if took := time.Since(began); took > 30*time.Second { // it is for ever if sarama waits for partition 1
		t.Errorf("partition 0 took %v", took)
	}
	c.ConsumePartition("two", 1, sarama.OffsetOldest)
	within(t, `partition 1 of topic "two".*leader`, func() any { return <-said })
}

// A consumer says a fault, and that a topic was made again, and goes on after both.
func TestConsumerGoesOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fetch kafkatest.Action // what happens to fetches
		want  string
	}{
		"connection lost":      {kafkatest.Action{CutBefore: true}, "EOF|reset|pipe"},
		"leader moved":         {kafkatest.Action{NotLeader: true}, sarama.ErrNotLeaderForPartition.Error()},
		"fetches not answered": {kafkatest.Action{DelayAnswer: time.Hour}, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers, topic, proxy := proxied(t)
			said := make(chan error, 100)
			_, p := follow(t, at(t, proxy.Addr()), topic, sarama.OffsetOldest, kafka.Following{Say: func(_ int32, err error) { said <- err }})
			expect(t, p.Messages(), "a", "b")
			proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
				if r.Key == kmsg.Fetch {
					return test.fetch
				}
				return kafkatest.Action{}
			})
			within(t, `^reading partition 0 of topic ".*" at offset 1: .*(`+test.want+").*; still trying$", func() any { return <-said })
			proxy.SetFault(nil)
			kafkatest.Produce(t, brokers, topic, "c")
			expect(t, p.Messages(), "c")
			proxy.Refuse(true)
			proxy.Cut()
			kafkatest.Recreate(t, brokers, topic, "1", "2", "3", "4", "5")
			proxy.Refuse(false)
			expect(t, p.Messages(), "1", "2", "3", "4", "5")
			within(t, kafka.ErrAnotherTopic.Error(), func() any { return <-said })
		})
	}
}

// The end is known while a question is answered, and why not while it is not.
func TestEnds(t *testing.T) {
	t.Parallel()
	_, topic, proxy := proxied(t)
	told := make(chan error, 100)
	e := at(t, proxy.Addr()).NewEnds("test", topic, 0, func(err error) { told <- err })
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // the test's context ends before
	running.Go(func() { e.Run(t.Context()) })
	for range 2 {
		asked := time.Now()
		last, err := e.Ask(t.Context())
		if err != nil || last.Offset != 2 || last.Asked.Before(asked) || e.Last().Offset != 2 {
			t.Fatalf("got %+v, %v", last, err)
		}
	}
	proxy.Refuse(true)
	proxy.Cut()
	within(t, "^[^<]", func() any { return <-told })
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if last, err := e.Ask(short); err == nil {
		t.Errorf("got %+v of a broker that is away", last)
	}
	proxy.Refuse(false)
	within(t, "^<nil>$", func() any { return <-told })
}
