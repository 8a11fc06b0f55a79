package broker

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// badBytes are what must cost a client its connection, and nobody else anything.
func badBytes() map[string][]byte {
	request := func(key kmsg.Key, version int16, body ...byte) []byte { // whole, with its length
		b := append([]byte{byte(key >> 8), byte(key), byte(version >> 8), byte(version), 0, 0, 0, 1, 0xff, 0xff}, body...)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	}
	topics := binary.BigEndian.AppendUint32([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 0}, 2_000_000)
	return map[string][]byte{
		"a little more than allowed":     binary.BigEndian.AppendUint32(nil, maxRequest+1),
		"half a header":                  {0, 0, 0, 4, 0, 3, 0, 1},
		"negative key":                   request(-1, 0),
		"negative version":               request(kmsg.Metadata, -1),
		"a version with tags":            request(kmsg.JoinGroup, 6, make([]byte, 30)...),
		"cut body":                       request(kmsg.Fetch, 11, 1, 2, 3),
		"two million topics":             request(kmsg.Produce, 7, append(topics, make([]byte, 6*2_000_000)...)...),
		"a long request without records": request(kmsg.Metadata, 1, append([]byte{0, 0, 0x4e, 0x20}, make([]byte, 40_000)...)...),
		"settings at run time":           request(kmsg.AlterConfigs, 0, make([]byte, 8)...),
	}
}

// After bytes that are no request a connection ends at once, and a late request ends it after its time.
func TestConnectionsEnd(t *testing.T) {
	request := (&raw{}).bytes(kmsg.NewPtrInitProducerIDRequest(), 1)
	const never = -1
	type row struct {
		sent  [][]byte
		pause time.Duration // before each part of sent
		reads bool          // the answers
		open  time.Duration // how long the connection stays
	}
	rows := map[string]row{
		"nothing at all":                {open: requestTimeout},
		"a byte now and then":           {slices.Collect(slices.Chunk(request, 1)), requestTimeout / 5, true, requestTimeout * 6 / 5},
		"a request, then silence":       {[][]byte{request}, 0, true, never},
		"a request, then a part of one": {[][]byte{request, request[:2]}, 0, true, requestTimeout},
		"a request, and reads nothing":  {[][]byte{request}, 0, false, answerTimeout},
	}
	for name, sent := range badBytes() {
		rows[name] = row{[][]byte{sent}, 0, true, 0}
	}
	for name, r := range rows {
		synctest.Test(t, func(t *testing.T) {
			server, conn := net.Pipe()
			b := &Broker{cfg: Config{Log: slog.New(slog.DiscardHandler)}, offered: offered(), ctx: t.Context(), clients: make(map[*client]struct{})}
			b.inside.Listen("tcp", "localhost:0") // what is to reach kfake waits
			begin, ended := time.Now(), time.Duration(never)
			go func() {
				b.serve(&client{Conn: server})
				ended = time.Since(begin)
			}()
			if r.reads {
				go io.Copy(io.Discard, conn)
			}
			go func() {
				for _, part := range r.sent {
					time.Sleep(r.pause)
					conn.Write(part)
				}
			}()
			time.Sleep(time.Hour)
			synctest.Wait()
			if ended != r.open {
				t.Errorf("%s: closed after %v, want %v (-1ns: never)", name, ended, r.open)
			}
			conn.Close()
		})
	}
}

// FuzzBytes sends anything, and the end of the connection. Like each fuzz target it has a whole broker:
// what that hands on must not hurt kfake, whose panics would end the process and so the test.
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
	const noSnappy = "\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"
	for codec, begin := range []string{"", "\x1f\x8b\x08\x00", noSnappy, "\x04\x22\x4d\x18", "\x28\xb5\x2f\xfd"} {
		f.Add(int16(codec), int32(2), int64(0), []byte(begin))
	}
	b := start(f, Config{Topic: "fuzz"})
	f.Fuzz(func(t *testing.T, attributes int16, n int32, at int64, records []byte) {
		w := dial(t, b.Addr())
		w.produce("fuzz", batch(n, records, func(b *kmsg.RecordBatch) { b.Attributes, b.FirstTimestamp = attributes, at }))
		for _, at := range []int64{0, 1000, 1<<63 - 1} {
			w.offset("fuzz", at)
		}
	})
}

// FuzzState asks well-formed questions about a few topics, groups and producers, each of which may
// need what another one left behind. In the end all that is there can be read.
func FuzzState(f *testing.F) {
	for seed := range uint64(12) {
		f.Add(seed)
	}
	b := start(f, Config{Topic: "fuzz", DataDir: f.TempDir()})
	f.Fuzz(func(t *testing.T, seed uint64) { askMany(t, b.Addr(), seed, func(step int) bool { return step < 120 }) })
}

// askMany asks on four connections at a time, and on a new one when one of them ends. Only silence is
// an error.
func askMany(t *testing.T, addr string, seed uint64, more func(step int) bool) {
	t.Helper()
	var conns sync.WaitGroup
	for i := range uint64(4) {
		rng, w := rand.New(rand.NewPCG(seed, i)), dial(t, addr)
		conns.Go(func() {
			for step := 0; more(step); step++ {
				req, versions := question(rng)
				version := pick(rng, versions...)
				if p, ok := req.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
					w.Write(w.bytes(p, version))
					continue
				}
				_, err := w.try(req, version)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s version %d was never answered: %+v", kmsg.NameForKey(req.Key()), version, req)
					return
				}
				if err != nil || rng.IntN(50) == 0 {
					w.Close()
					w = dial(t, addr)
				}
			}
		})
	}
	conns.Wait()
	w := dial(t, addr)
	for _, topic := range w.ask(kmsg.NewPtrMetadataRequest(), 1).(*kmsg.MetadataResponse).Topics {
		w.readAll(*topic.Topic, func([]byte) {})
	}
}

// question returns a request and some of its versions. Most are made by hand, the others are wild.
func question(rng *rand.Rand) (kmsg.Request, []int16) {
	topic := pick(rng, "fuzz", "fuzz", "one", "two.x", "two_x")
	switch rng.IntN(9) {
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
		req := offsetRequest(topic, pick[int64](rng, -1, -2, -3, 0, 1000, 1002, 1<<62))
		p := &req.Topics[0].Partitions[0]
		p.Partition, p.MaxNumOffsets = pick[int32](rng, 0, 1), pick[int32](rng, 0, 1, -1)
		return req, []int16{0, 1, 5}
	case 6:
		if rng.IntN(4) == 0 {
			return &kmsg.DeleteTopicsRequest{TopicNames: []string{topic}, TimeoutMillis: 15_000}, []int16{0, 3}
		}
		return createRequest(topic, pick[int32](rng, 1, 3, -1, 0, 99)), []int16{0, 3}
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

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// fill puts wild values into all fields of a request, strings and numbers from small alphabets.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type().Field(i).Name != "UnknownTags" {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Pointer:
		if rng.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(pick(rng, nil, []byte{}, []byte("bytes"), batch(2, records("a", "b"))))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString(pick(rng, "fuzz", "fuzz", "fuzz", "", "a", "a.b", "a_b", "..", "/", "consumer", "range", "max.message.bytes",
			"cleanup.policy", "compact", "-1", "0", "99999999999999999999", "\xff", string(make([]byte, 300))))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(pick[int64](rng, -1, 0, 0, 0, 1, 2, 5, 100, -2, math.MinInt8, math.MaxInt8, math.MinInt32, math.MaxInt32, math.MinInt64, math.MaxInt64))
	}
}
