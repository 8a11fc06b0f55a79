package broker

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/wire"
)

// patience is how long an answer may take on a busy machine.
const patience = time.Minute

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, cfg Config) *Broker {
	t.Helper()
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:0")
	b, err := Start(cfg)
	check(t, err)
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
	check(t, err)
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
	w.Write(w.bytes(req, version)) // after an error nothing can be read
	return w.read(req.ResponseKind())
}

// ask returns the answer to a request.
func (w *raw) ask(req kmsg.Request, version int16) kmsg.Response {
	w.Helper()
	resp, err := w.try(req, version)
	check(w, err)
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
	if resp.IsFlexible() {
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

// write sends one batch with these values.
func (w *raw) write(topic string, values ...string) {
	w.Helper()
	check(w, w.produce(topic, batch(int32(len(values)), records(values...))))
}

func produceRequest(topic string, batches ...[]byte) *kmsg.ProduceRequest {
	t := kmsg.ProduceRequestTopic{Topic: topic}
	for _, b := range batches {
		t.Partitions = append(t.Partitions, kmsg.ProduceRequestTopicPartition{Records: b})
	}
	return &kmsg.ProduceRequest{Acks: -1, Topics: []kmsg.ProduceRequestTopic{t}}
}

func offsetRequest(topic string, at int64) *kmsg.ListOffsetsRequest {
	p := []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: at, CurrentLeaderEpoch: -1}}
	return &kmsg.ListOffsetsRequest{ReplicaID: -1, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: p}}}
}

// offset asks for an offset of partition 0, by time.
func (w *raw) offset(topic string, at int64) int64 {
	w.Helper()
	answer := w.ask(offsetRequest(topic, at), 5).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	check(w, kerr.ErrorForCode(answer.ErrorCode))
	return answer.Offset
}

func (w *raw) oldest(topic string) int64 { return w.offset(topic, -2) }
func (w *raw) newest(topic string) int64 { return w.offset(topic, -1) }

func fetchRequest(topic string, offset int64) *kmsg.FetchRequest {
	p := []kmsg.FetchRequestTopicPartition{{FetchOffset: offset, PartitionMaxBytes: math.MaxInt32, CurrentLeaderEpoch: -1}}
	return &kmsg.FetchRequest{ReplicaID: -1, MaxBytes: math.MaxInt32, SessionEpoch: -1,
		Topics: []kmsg.FetchRequestTopic{{Topic: topic, Partitions: p}}}
}

// values returns the values in partition 0.
func (w *raw) values(topic string) (values []string) {
	w.Helper()
	w.readAll(topic, func(value []byte) { values = append(values, string(value)) })
	return values
}

// readAll passes on the values in partition 0, and fails at a hole and at what cannot be read.
func (w *raw) readAll(topic string, take func(value []byte)) {
	w.Helper()
	for next, end := w.oldest(topic), w.newest(topic); next < end; {
		from, p := next, w.ask(fetchRequest(topic, next), 11).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		_, err := new(wire.Decompressor).Messages(p.RecordBatches, from, func(m *sarama.ConsumerMessage) error {
			if m.Offset != next || len(m.Headers) > 0 { // no test writes a header: records were left out
				return fmt.Errorf("offset %d has %.100q", m.Offset, m.Value)
			}
			next++
			take(m.Value)
			return nil
		})
		if err != nil || next == from {
			w.Fatalf("record %d of %d in %s cannot be read (code %d): %v", next, end, topic, p.ErrorCode, err)
		}
	}
}

func createRequest(topic string, partitions int32) *kmsg.CreateTopicsRequest {
	t := kmsg.CreateTopicsRequestTopic{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}
	return &kmsg.CreateTopicsRequest{TimeoutMillis: 60_000, Topics: []kmsg.CreateTopicsRequestTopic{t}}
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

// batch makes a batch that says it has n records, and changes it before its checksum is made.
func batch(n int32, records []byte, change ...func(*kmsg.RecordBatch)) []byte {
	b := kmsg.RecordBatch{Magic: 2, LastOffsetDelta: n - 1, FirstTimestamp: 1000, MaxTimestamp: -1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: n, Records: records}
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
