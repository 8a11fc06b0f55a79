package broker

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The fuzz targets send to a whole broker: what the guard lets through must not
// hurt kfake, whose panics would end the process and so the test.

// FuzzBytes sends anything.
func FuzzBytes(f *testing.F) {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("fuzz"))
	rng := rand.New(rand.NewPCG(1, 1))
	versions().EachMaxKeyVersion(func(key, newest int16) {
		for version := range newest + 1 {
			req := kmsg.RequestForKey(key)
			req.SetVersion(version)
			f.Add(format.AppendRequest(nil, req, 1))
			fill(rng, reflect.ValueOf(req).Elem(), 0)
			req.SetVersion(version)
			f.Add(format.AppendRequest(nil, req, 1))
		}
	})
	for _, c := range badBytes() {
		f.Add(c.bytes)
	}
	f.Add(produceRequest("fuzz", batch(0, 3, records(3))))
	addr := fuzzBroker(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		converse(t, addr, b)
		alive(t, addr)
	})
}

// FuzzRequest sends well-formed requests with wild contents.
func FuzzRequest(f *testing.F) {
	var keys []int16
	versions().EachMaxKeyVersion(func(key, _ int16) { keys = append(keys, key) })
	for seed := range uint64(200) {
		f.Add(seed)
	}
	addr := fuzzBroker(f)
	f.Fuzz(func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var b []byte
		for range 1 + rng.IntN(4) { // some need what others leave behind
			key := keys[rng.IntN(len(keys))]
			newest, _ := versions().LookupMaxKeyVersion(key)
			req := kmsg.RequestForKey(key)
			fill(rng, reflect.ValueOf(req).Elem(), 0)
			req.SetVersion(int16(rng.IntN(int(newest) + 1)))
			b = kmsg.NewRequestFormatter(kmsg.FormatterClientID("fuzz")).AppendRequest(b, req, 1)
		}
		converse(t, addr, b)
		alive(t, addr)
	})
}

// FuzzBatch sends a batch with a right length and checksum, and lets the broker
// look for a time in it.
func FuzzBatch(f *testing.F) {
	f.Add(int16(0), int32(3), int64(1000), records(3))
	f.Add(int16(0), int32(math.MaxInt32), int64(-1), records(1))
	f.Add(int16(0), int32(-1), int64(math.MinInt64), []byte(nil))
	f.Add(int16(8), int32(1), int64(math.MaxInt64), records(1))
	f.Add(int16(1), int32(2), int64(0), []byte("\x1f\x8b\x08\x00"))
	f.Add(int16(2), int32(2), int64(0), []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"))
	f.Add(int16(2), int32(2), int64(0), []byte("\xff\xff\xff\xff\x0f"))
	f.Add(int16(3), int32(2), int64(0), []byte("\x04\x22\x4d\x18"))
	f.Add(int16(4), int32(2), int64(0), []byte("\x28\xb5\x2f\xfd"))
	addr := fuzzBroker(f)
	list := kmsg.NewPtrListOffsetsRequest()
	list.SetVersion(5)
	list.Topics = make([]kmsg.ListOffsetsRequestTopic, 1)
	list.Topics[0].Topic = "fuzz"
	for _, at := range []int64{0, 1000, math.MaxInt64} {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp, p.CurrentLeaderEpoch = at, -1
		list.Topics[0].Partitions = append(list.Topics[0].Partitions, p)
	}
	look := kmsg.NewRequestFormatter().AppendRequest(nil, list, 2)
	f.Fuzz(func(t *testing.T, attributes int16, n int32, at int64, records []byte) {
		b := batch(attributes, n, records)
		binary.BigEndian.PutUint64(b[27:], uint64(at))
		binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[checksummed:], crc32.MakeTable(crc32.Castagnoli)))
		converse(t, addr, produceRequest("fuzz", b))
		converse(t, addr, look)
		alive(t, addr)
	})
}

func fuzzBroker(f *testing.F) (addr string) {
	b, err := Start(Config{Addr: "127.0.0.1:0", Topic: "fuzz"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() })
	return b.Addr()
}

// converse sends b and reads what comes, until the broker closes the connection
// or answers nothing more.
func converse(t *testing.T, addr string, b []byte) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(b)
	conn.(*net.TCPConn).CloseWrite()
	conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	answer := make([]byte, 64<<10)
	for {
		if _, err := conn.Read(answer); err != nil {
			return
		}
	}
}

func alive(t *testing.T, addr string) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := roundTrip(ctx, addr, kmsg.NewPtrMetadataRequest()); err != nil {
		t.Fatalf("the broker does not answer any more: %v", err)
	}
}

// fill puts wild values into all fields of a request.
func fill(rng *rand.Rand, v reflect.Value, depth int) {
	pick := func(n ...int64) int64 { return n[rng.IntN(len(n))] }
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type().Field(i).Name != "UnknownTags" {
				fill(rng, v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		if rng.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem(), depth+1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([][]byte{nil, {}, []byte("bytes"), batch(0, 2, records(2)), {0, 1, 0, 0, 0, 1, 0, 4, 'f', 'u', 'z', 'z'}}[rng.IntN(5)])
			return
		}
		n := rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i), depth+1)
		}
	case reflect.String:
		v.SetString([]string{"fuzz", "fuzz", "fuzz", "", "a", "a.b", "a_b", "..", "/", "consumer", "range", "retention.bytes", "segment.bytes",
			"cleanup.policy", "compact", "-1", "0", "99999999999999999999", "\xff", string(make([]byte, 300))}[rng.IntN(20)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(pick(-1, 0, 0, 0, 1, 2, 5, 100, -2, math.MinInt8, math.MaxInt8, math.MinInt32, math.MaxInt32, math.MinInt64, math.MaxInt64))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(pick(0, 0, 1, 255)))
	}
}

// records encodes n small records.
func records(n int) (b []byte) {
	for i := range n {
		r := kmsg.NewRecord()
		r.OffsetDelta, r.TimestampDelta64 = int32(i), int64(i)
		r.Value = []byte("value")
		r.Length = int32(len(r.AppendTo(nil)) - 1) // the length itself takes a byte
		b = r.AppendTo(b)
	}
	return b
}

// batch makes a batch that says it has n records.
func batch(attributes int16, n int32, records []byte) []byte {
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), Magic: 2, Attributes: attributes, LastOffsetDelta: n - 1, FirstTimestamp: 1000, MaxTimestamp: -1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: n, Records: records,
	}
	encoded := b.AppendTo(nil)
	binary.BigEndian.PutUint32(encoded[crcAt:], crc32.Checksum(encoded[checksummed:], crc32.MakeTable(crc32.Castagnoli)))
	return encoded
}

// produceRequest is a whole request, with its length, for partition 0.
func produceRequest(topic string, batch []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(7)
	req.Acks = -1
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batch}}}}
	return kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
}
