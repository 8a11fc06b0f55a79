package broker

import (
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/wire"
)

// patience is how long an answer may take on a busy machine.
const patience = time.Minute

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

// bytes encodes a request of a version.
func (w *raw) bytes(req kmsg.Request, version int16) []byte {
	req.SetVersion(version)
	w.number++
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID(w.id)).AppendRequest(nil, req, w.number)
}

func (w *raw) try(req kmsg.Request, version int16) (kmsg.Response, error) {
	if _, err := w.Write(w.bytes(req, version)); err != nil {
		return nil, err
	}
	return w.read(req.ResponseKind())
}

// ask returns the answer to a request.
func (w *raw) ask(req kmsg.Request, version int16) kmsg.Response {
	w.Helper()
	resp, err := w.try(req, version)
	if err != nil {
		w.Fatalf("%s version %d: %v", kmsg.NameForKey(req.Key()), version, err)
	}
	return resp
}

func (w *raw) read(resp kmsg.Response) (kmsg.Response, error) {
	w.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, 8)
	if _, err := io.ReadFull(w, head); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head)-4)
	if _, err := io.ReadFull(w, body); err != nil {
		return nil, err
	}
	if n := int32(binary.BigEndian.Uint32(head[4:])); n != w.number {
		w.Fatalf("the answer to request %d came to request %d", n, w.number)
	}
	if resp.IsFlexible() && resp.Key() != kmsg.ApiVersions.Int16() {
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// produce sends one batch to partition 0 and returns the error in the answer.
func (w *raw) produce(topic string, batch []byte) error {
	w.Helper()
	resp := w.ask(produceRequest(topic, batch), 7).(*kmsg.ProduceResponse)
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
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

func fetchRequest(topic string, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.SessionEpoch = math.MaxInt32, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, math.MaxInt32
	req.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return req
}

// values returns the first value of each batch of partition 0, and fails at a hole and at what cannot
// be read.
func (w *raw) values(topic string) (values []string) {
	w.Helper()
	for end, next := w.newest(topic), w.oldest(topic); next < end; {
		p := w.ask(fetchRequest(topic, next), 11).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
			w.Fatalf("record %d of %d in %s cannot be read (code %d)", next, end, topic, p.ErrorCode)
		}
		for all := p.RecordBatches; len(all) > 0; {
			batch, size, err := wire.ReadBatch(all)
			if err != nil || batch.FirstOffset > next || batch.FirstOffset+int64(batch.LastOffsetDelta) < next {
				w.Fatalf("at offset %d there is %d: %v", next, batch.FirstOffset, err)
			}
			var r kmsg.Record
			if err := r.ReadFrom(batch.Records); err != nil {
				w.Fatal(err)
			}
			values, next, all = append(values, string(r.Value)), batch.FirstOffset+int64(batch.LastOffsetDelta)+1, all[size:]
		}
	}
	return values
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

// records encodes records with these values.
func records(values ...string) (b []byte) {
	for i, v := range values {
		r := kmsg.Record{OffsetDelta: int32(i), TimestampDelta64: int64(i), Value: []byte(v)}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // an empty length is one byte
		b = r.AppendTo(b)
	}
	return b
}

// batch makes a batch that says it has n records. Each of change may spoil it, before its checksum
// is made.
func batch(n int32, records []byte, change ...func(*kmsg.RecordBatch)) []byte {
	b := kmsg.RecordBatch{
		Magic: 2, LastOffsetDelta: n - 1, FirstTimestamp: 1000, MaxTimestamp: -1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: n, Records: records,
	}
	for _, c := range change {
		c(&b)
	}
	return wire.AppendBatch(nil, b)
}

func attributes(a int16) func(*kmsg.RecordBatch) {
	return func(b *kmsg.RecordBatch) { b.Attributes = a }
}

// by has a batch come from a producer.
func by(id int64, epoch int16, sequence int32) func(*kmsg.RecordBatch) {
	return func(b *kmsg.RecordBatch) { b.ProducerID, b.ProducerEpoch, b.FirstSequence = id, epoch, sequence }
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
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 && v.Kind() == reflect.Slice {
			v.SetBytes(pick(rng, nil, []byte{}, []byte("bytes"), batch(2, records("a", "b"))))
			return
		}
		if v.Kind() == reflect.Slice {
			v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		}
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString(pick(rng, "fuzz", "fuzz", "fuzz", "", "a", "a.b", "a_b", "..", "/", "consumer", "range", "max.message.bytes",
			"cleanup.policy", "compact", "-1", "0", "99999999999999999999", "\xff", string(make([]byte, 300))))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	default:
		if v.CanInt() {
			v.SetInt(pick[int64](rng, -1, 0, 0, 0, 1, 2, 5, 100, -2, math.MinInt8, math.MaxInt8, math.MinInt32, math.MaxInt32, math.MinInt64, math.MaxInt64))
		} else if v.CanUint() {
			v.SetUint(pick[uint64](rng, 0, 0, 1, 255))
		}
	}
}
