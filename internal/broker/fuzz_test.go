package broker

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The fuzz targets send to a whole broker: what it hands on must not hurt kfake, whose panics would
// end the process and so the test.

// FuzzBytes sends anything, and the end of the connection.
func FuzzBytes(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	offered().EachMaxKeyVersion(func(key, newest int16) {
		for version := range 2 * (newest + 1) {
			req := wild(rng, kmsg.Key(key))
			req.SetVersion(version / 2)
			f.Add(kmsg.NewRequestFormatter(kmsg.FormatterClientID("fuzz")).AppendRequest(nil, req, 1))
		}
	})
	for _, b := range badBytes() {
		f.Add(b)
	}
	b := start(f, Config{Topic: "fuzz"})
	f.Fuzz(func(t *testing.T, sent []byte) {
		w := dial(t, b.Addr())
		w.Write(sent)
		w.Conn.(*net.TCPConn).CloseWrite()
		w.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, w.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("neither answered nor closed")
		}
		dial(t, b.Addr()).ask(kmsg.NewPtrMetadataRequest(), 1)
	})
}

// FuzzBatch sends a batch with a right length and checksum, and lets the broker look for a time in it.
func FuzzBatch(f *testing.F) {
	f.Add(int16(0), int32(3), int64(1000), records("a", "b", "c"))
	f.Add(int16(0), int32(1<<31-1), int64(-1), records("a"))
	f.Add(int16(0), int32(-1), int64(-1<<63), []byte(nil))
	f.Add(int16(8), int32(1), int64(1<<63-1), records("a"))
	f.Add(int16(1), int32(2), int64(0), []byte("\x1f\x8b\x08\x00"))
	f.Add(int16(2), int32(2), int64(0), []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"))
	f.Add(int16(3), int32(2), int64(0), []byte("\x04\x22\x4d\x18"))
	f.Add(int16(4), int32(2), int64(0), []byte("\x28\xb5\x2f\xfd"))
	b := start(f, Config{Topic: "fuzz"})
	f.Fuzz(func(t *testing.T, attributes int16, n int32, at int64, records []byte) {
		w := dial(t, b.Addr())
		w.produce("fuzz", batch(n, records, func(b *kmsg.RecordBatch) { b.Attributes, b.FirstTimestamp = attributes, at }))
		for _, at := range []int64{0, 1000, 1<<63 - 1} {
			w.offset("fuzz", at)
		}
	})
}

// FuzzState has several connections ask well-formed questions about a few topics, groups and
// producers, each of which may need what another one left behind. Every one is answered, or costs
// its connection, and at the end all that is there can be read.
func FuzzState(f *testing.F) {
	for seed := range uint64(12) {
		f.Add(seed)
	}
	b := start(f, Config{Topic: "fuzz", DataDir: f.TempDir()})
	f.Fuzz(func(t *testing.T, seed uint64) { askMany(t, b.Addr(), seed, func(step int) bool { return step < 120 }) })
}

// askMany returns how many requests there were.
func askMany(t *testing.T, addr string, seed uint64, more func(step int) bool) int64 {
	t.Helper()
	ended := make(chan error)
	var asked atomic.Int64
	const conns = 4
	for i := range uint64(conns) {
		go func() { ended <- keepAsking(t, addr, rand.New(rand.NewPCG(seed, i)), more, &asked) }()
	}
	for range conns {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	w := dial(t, addr)
	for _, topic := range w.ask(kmsg.NewPtrMetadataRequest(), 1).(*kmsg.MetadataResponse).Topics {
		w.values(*topic.Topic)
	}
	return asked.Load()
}

// keepAsking asks on one connection, and on a new one when that ends. Only silence is an error.
func keepAsking(t *testing.T, addr string, rng *rand.Rand, more func(step int) bool, asked *atomic.Int64) error {
	var w *raw
	for step := 0; more(step); step++ {
		if w == nil {
			w = dial(t, addr)
		}
		asked.Add(1)
		req, versions := question(rng)
		version := pick(rng, versions...)
		if p, ok := req.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
			w.Write(w.bytes(p, version))
			continue
		}
		_, err := w.try(req, version)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%s version %d was never answered: %+v", kmsg.NameForKey(req.Key()), version, req)
		}
		if err != nil || rng.IntN(50) == 0 {
			w.Close()
			w = nil
		}
	}
	return nil
}

// question returns a request and some of its versions. Most of a topic's are made by hand, so that
// they are met by what they need; the others are wild.
func question(rng *rand.Rand) (kmsg.Request, []int16) {
	topic := pick(rng, "fuzz", "fuzz", "one", "two.x", "two_x")
	switch rng.IntN(10) {
	case 0, 1, 2:
		req := produceRequest(topic)
		req.Acks = pick[int16](rng, -1, -1, 1, 0, 7)
		for range 1 + rng.IntN(3) {
			values := slices.Repeat([]string{strings.Repeat("v", pick(rng, 0, 1, 100, 5000))}, 1+rng.IntN(4))
			b := batch(pick(rng, int32(len(values)), int32(len(values)), 1), records(values...), attributes(pick[int16](rng, 0, 0, 0, 1, 8, 16, 32)),
				by(pick[int64](rng, -1, -1, 0, 1, 1000), pick[int16](rng, 0, 1, -1), pick[int32](rng, 0, 1, 2, -1)))
			req.Topics[0].Partitions = append(req.Topics[0].Partitions,
				kmsg.ProduceRequestTopicPartition{Partition: pick[int32](rng, 0, 0, 1, 2, -1), Records: b})
		}
		return req, []int16{3, 4, 5, 6, 7}
	case 3, 4:
		req := fetchRequest(topic, pick[int64](rng, 0, 0, 1, 10, 1000, -1))
		req.MinBytes, req.MaxWaitMillis = pick[int32](rng, 0, 1, 1<<30), pick[int32](rng, 0, 1, 20)
		req.SessionID, req.SessionEpoch = pick[int32](rng, 0, 0, 1), pick[int32](rng, -1, 0, 1)
		req.IsolationLevel = pick[int8](rng, 0, 1)
		return req, []int16{4, 7, 11}
	case 5:
		req := kmsg.NewPtrListOffsetsRequest()
		for range 1 + rng.IntN(2) {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = pick[int32](rng, 0, 1), pick[int64](rng, -1, -2, -3, 0, 1000, 1002, 1<<62)
			p.MaxNumOffsets = pick[int32](rng, 0, 1, -1)
			req.Topics = append(req.Topics, kmsg.ListOffsetsRequestTopic{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}})
		}
		return req, []int16{0, 1, 5}
	case 6:
		if rng.IntN(4) == 0 {
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.TopicNames = []string{topic}
			return req, []int16{0, 3}
		}
		return createRequest(topic, pick[int32](rng, 1, 3, -1, 0, 99)), []int16{0, 3}
	case 7: // of groups and transactions, offered here or not
		return wild(rng, pick(rng, kmsg.FindCoordinator, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.OffsetCommit,
			kmsg.OffsetFetch, kmsg.ListGroups, kmsg.AddPartitionsToTxn, kmsg.EndTxn, kmsg.InitProducerID)), []int16{0, 1, 2}
	}
	var keys []kmsg.Key
	offered().EachMaxKeyVersion(func(key, _ int16) { keys = append(keys, kmsg.Key(key)) })
	key := pick(rng, keys...)
	newest, _ := offered().LookupMaxKeyVersion(key.Int16())
	return wild(rng, key), []int16{0, newest / 2, newest}
}

func wild(rng *rand.Rand, key kmsg.Key) kmsg.Request {
	req := kmsg.RequestForKey(key.Int16())
	fill(rng, reflect.ValueOf(req).Elem())
	if fetch, ok := req.(*kmsg.FetchRequest); ok {
		fetch.MaxWaitMillis = min(fetch.MaxWaitMillis, 20)
	}
	return req
}
