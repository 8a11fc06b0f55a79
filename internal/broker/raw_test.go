package broker

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// patience is how long an answer may take on a busy machine.
const patience = 20 * time.Second

func start(t testing.TB, cfg Config) *Broker {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	b, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// raw is a client that sends any bytes.
type raw struct {
	testing.TB
	net.Conn
	id     string
	number int32
}

func dial(t testing.TB, addr string) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &raw{TB: t, Conn: conn, id: "wire"}
}

// ask sends a request of a version and returns the answer.
func (w *raw) ask(req kmsg.Request, version int16) kmsg.Response {
	w.Helper()
	resp, err := w.try(req, version)
	if err != nil {
		w.Fatalf("%s version %d: %v", kmsg.NameForKey(req.Key()), version, err)
	}
	return resp
}

// errSilent is what try returns if neither an answer came nor the end of the connection.
var errSilent = errors.New("no answer")

func (w *raw) try(req kmsg.Request, version int16) (kmsg.Response, error) {
	req.SetVersion(version)
	w.number++
	if _, err := w.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID(w.id)).AppendRequest(nil, req, w.number)); err != nil {
		return nil, err
	}
	return w.read(req.ResponseKind())
}

func (w *raw) read(resp kmsg.Response) (kmsg.Response, error) {
	w.SetReadDeadline(time.Now().Add(patience))
	var size [4]byte
	if _, err := io.ReadFull(w, size[:]); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errSilent
	} else if err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(w, body); err != nil {
		return nil, err
	}
	if n := int32(binary.BigEndian.Uint32(body)); n != w.number {
		w.Fatalf("the answer to request %d came to request %d", n, w.number)
	}
	body = body[4:]
	if resp.IsFlexible() && resp.Key() != kmsg.ApiVersions.Int16() {
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// closed fails the test unless the broker ends the connection, without an answer.
func (w *raw) closed() {
	w.Helper()
	w.SetReadDeadline(time.Now().Add(patience))
	if n, err := w.Read(make([]byte, 100)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		w.Errorf("the connection is still open (%d bytes of an answer, %v)", n, err)
	}
}

// produce sends one batch to partition 0 and returns the error in the answer.
func (w *raw) produce(topic string, batch []byte) error {
	w.Helper()
	resp := w.ask(produceRequest(topic, batch), 7).(*kmsg.ProduceResponse)
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// offset asks for an offset of partition 0, by time.
func (w *raw) offset(topic string, at int64) int64 {
	w.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp = at
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
	answer := w.ask(req, 5).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	if answer.ErrorCode != 0 {
		w.Fatalf("the offset at %d in %s: %v", at, topic, kerr.ErrorForCode(answer.ErrorCode))
	}
	return answer.Offset
}

func (w *raw) oldest(topic string) int64 { return w.offset(topic, -2) }
func (w *raw) newest(topic string) int64 { return w.offset(topic, -1) }

// fetch returns what is in partition 0 from offset on, as much as one answer holds.
func (w *raw) fetch(topic string, offset int64) *kmsg.FetchResponse {
	w.Helper()
	return w.ask(fetchRequest(topic, offset), 11).(*kmsg.FetchResponse)
}

func fetchRequest(topic string, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.SessionEpoch = math.MaxInt32, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, math.MaxInt32
	req.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return req
}

func createRequest(topic string, partitions int32) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, 1
	req.Topics = []kmsg.CreateTopicsRequestTopic{t}
	return req
}

func (w *raw) create(topic string, partitions int32) error {
	w.Helper()
	return kerr.ErrorForCode(w.ask(createRequest(topic, partitions), 3).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode)
}

func produceRequest(topic string, batches ...[]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1
	t := kmsg.ProduceRequestTopic{Topic: topic}
	for _, b := range batches {
		t.Partitions = append(t.Partitions, kmsg.ProduceRequestTopicPartition{Records: b})
	}
	req.Topics = []kmsg.ProduceRequestTopic{t}
	return req
}

// records encodes records with these values.
func records(values ...string) (b []byte) {
	for i, v := range values {
		r := kmsg.NewRecord()
		r.OffsetDelta, r.TimestampDelta64, r.Value = int32(i), int64(i), []byte(v)
		body := r.AppendTo(nil)[1:] // an empty length is one byte
		b = append(binary.AppendVarint(b, int64(len(body))), body...)
	}
	return b
}

// batch makes a batch that says it has n records. Each of change may spoil it, before its checksum
// is made.
func batch(n int32, records []byte, change ...func(*kmsg.RecordBatch)) []byte {
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), Magic: 2, LastOffsetDelta: n - 1, FirstTimestamp: 1000, MaxTimestamp: -1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: n, Records: records,
	}
	for _, c := range change {
		c(&b)
	}
	encoded := b.AppendTo(nil)
	binary.BigEndian.PutUint32(encoded[17:], crc32.Checksum(encoded[21:], crc32.MakeTable(crc32.Castagnoli)))
	return encoded
}

func attributes(a int16) func(*kmsg.RecordBatch) {
	return func(b *kmsg.RecordBatch) { b.Attributes = a }
}

// fill puts wild values into all fields of a request, strings and numbers from small alphabets.
func fill(rng *rand.Rand, v reflect.Value) {
	pick := func(n ...int64) int64 { return n[rng.IntN(len(n))] }
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
			v.SetBytes([][]byte{nil, {}, []byte("bytes"), batch(2, records("a", "b"))}[rng.IntN(4)])
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString([]string{"fuzz", "fuzz", "fuzz", "", "a", "a.b", "a_b", "..", "/", "consumer", "range", "max.message.bytes",
			"cleanup.policy", "compact", "-1", "0", "99999999999999999999", "\xff", string(make([]byte, 300))}[rng.IntN(19)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(pick(-1, 0, 0, 0, 1, 2, 5, 100, -2, math.MinInt8, math.MaxInt8, math.MinInt32, math.MaxInt32, math.MinInt64, math.MaxInt64))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(pick(0, 0, 1, 255)))
	}
}
