package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/Shopify/sarama"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/wire"
)

// batch is a batch from offset first on, to offset last, whose last offsets have these records. It is
// compressed with zstd if the attributes say so.
func batch(first, last int64, attributes int16, all ...kmsg.Record) []byte {
	b := kmsg.RecordBatch{FirstOffset: first, Magic: 2, LastOffsetDelta: int32(last - first), NumRecords: int32(len(all)), Attributes: attributes,
		FirstTimestamp: 1000, MaxTimestamp: 2000, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1}
	for i, r := range all {
		r.OffsetDelta = b.LastOffsetDelta - int32(len(all)-1-i)
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		b.Records = r.AppendTo(b.Records)
	}
	if attributes&7 == 4 {
		w, _ := zstd.NewWriter(nil)
		b.Records = w.EncodeAll(b.Records, nil)
	}
	return wire.AppendBatch(nil, b)
}

func records(values ...string) (all []kmsg.Record) {
	for _, v := range values {
		all = append(all, kmsg.Record{Value: []byte(v), TimestampDelta64: 5, Headers: []kmsg.Header{{Key: "k", Value: []byte(v)}}})
	}
	return all
}

// What is read of batches from offset 1 on, and where it ends.
func TestMessages(t *testing.T) {
	t.Parallel()
	const plain, zstd, logAppendTime, control = 0, 4, 8, 32
	large := strings.Repeat("a", 9<<20)
	garbage := batch(5, 6, 0, records("a", "b")...)
	broken := batch(5, 5, zstd, kmsg.Record{})
	odd := func(deltas ...int32) []byte {
		b := kmsg.RecordBatch{FirstOffset: 5, Magic: 2, LastOffsetDelta: 1, NumRecords: int32(len(deltas)), FirstTimestamp: 1000}
		for _, d := range deltas {
			b.Records = (&kmsg.Record{Length: 6, OffsetDelta: d}).AppendTo(b.Records)
		}
		return wire.AppendBatch(nil, b)
	}
	for name, c := range map[string]struct {
		batches [][]byte
		want    string
		next    int64
		err     string
	}{
		"nothing":              {nil, "", 1, ""},
		"plain and compressed": {[][]byte{batch(0, 1, plain, records("a", "b")...), batch(2, 2, zstd, records("c")...)}, "1=b@1005 2=c@1005 ", 3, ""},
		"the broker's time":    {[][]byte{batch(1, 1, logAppendTime, records("a")...)}, "1=a@2000 ", 2, ""},
		"some compacted away":  {[][]byte{batch(0, 9, zstd, records("a", "b")...)}, "8=a@1005 9=b@1005 ", 10, ""},
		"emptied by compaction, and a marker": {[][]byte{batch(1, 9, plain), batch(10, 10, control, records("x")...), batch(11, 19, zstd)},
			"", 20, ""},
		"a bomb": {[][]byte{batch(5, 5, zstd, records(strings.Repeat("a", wire.Limit+1))...), batch(6, 6, plain, records("after")...)},
			"5=(offset 5 was left out: more than 16 MiB when decompressed)@1000 6=after@1005 ", 7, ""},
		"a bomb of several": {[][]byte{batch(5, 7, zstd, records(large, large)...)},
			"7=(offsets 5 to 7 (2 records) were left out: more than 16 MiB when decompressed)@1000 ", 8, ""},
		"many headers": {[][]byte{batch(5, 5, zstd, kmsg.Record{Headers: make([]kmsg.Header, 1<<14+1)})}, "5=(offset 5 was left out: too many headers)@1000 ", 6, ""},
		"no zstd": {[][]byte{wire.AppendBatch(nil, kmsg.RecordBatch{FirstOffset: 5, Magic: 2, Attributes: zstd, NumRecords: 1, FirstTimestamp: 1000, Records: []byte("no zstd")})},
			"5=(offset 5 was left out: invalid input: magic number mismatch)@1000 ", 6, ""},
		"no records": {[][]byte{wire.AppendBatch(nil, kmsg.RecordBatch{FirstOffset: 5, Magic: 2, NumRecords: 1, FirstTimestamp: 1000, Records: []byte{200}})},
			"5=(offset 5 was left out: its records are broken)@1000 ", 6, ""},
		"one place twice":     {[][]byte{odd(0, 0)}, "6=(offsets 5 to 6 (2 records) were left out: its records are out of order)@1000 ", 7, ""},
		"past the last":       {[][]byte{odd(0, 2)}, "6=(offsets 5 to 6 (2 records) were left out: its records are out of order)@1000 ", 7, ""},
		"the last one is cut": {[][]byte{batch(1, 1, zstd, records("a")...), batch(2, 2, zstd, records("b")...)[:70]}, "1=a@1005 ", 2, ""},
		"a wrong checksum":    {[][]byte{batch(1, 1, plain, records("a")...), append(garbage[:len(garbage)-1:len(garbage)-1], 'x')}, "1=a@1005 ", 2, "checksum"},
		"a format of 2016":    {[][]byte{make([]byte, 29)}, "", 1, wire.ErrFormat.Error()},
		"somebody has enough": {[][]byte{broken, batch(6, 9, plain, records("a", "stop", "b")...)}, "5=@1000 7=a@1005 ", 6, "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			next, err := new(wire.Decompressor).Messages(bytes.Join(c.batches, nil), 1, func(m *sarama.ConsumerMessage) error {
				if string(m.Value) == "stop" {
					return errors.New("stop")
				}
				fmt.Fprintf(&got, "%d=%s@%d ", m.Offset, m.Value, m.Timestamp.UnixMilli())
				return nil
			})
			if got.String() != c.want || next != c.next || (c.err == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), c.err) {
				t.Errorf("got %.300q, next %d, %v, want %q, %d, %q", got.String(), next, err, c.want, c.next, c.err)
			}
		})
	}
}

// Headers are those that were sent, and the one of what was left out.
func TestHeaders(t *testing.T) {
	t.Parallel()
	both := append(batch(1, 1, 4, records("a")...), batch(2, 2, 3, records("b")...)...)
	var got []string
	new(wire.Decompressor).Messages(both, 1, func(m *sarama.ConsumerMessage) error {
		for _, h := range m.Headers {
			got = append(got, string(h.Key)+"="+string(h.Value))
		}
		return nil
	})
	if text := strings.Join(got, " "); text != "k=a kafkachat-skipped=offset 2 was left out: lz4: bad magic number" {
		t.Errorf("got %q", text)
	}
}

// A decompressor keeps to a bound of its own, where zstd's decoder has the larger one.
func TestMax(t *testing.T) {
	t.Parallel()
	w, _ := zstd.NewWriter(nil)
	if _, err := (&wire.Decompressor{Max: 100}).Decompress(w.EncodeAll(make([]byte, 101), nil), 4); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("101 bytes where 100 are allowed: %v", err)
	}
}

// Whatever a batch holds, reading it comes to an end, and goes on after what was asked for.
func FuzzMessages(f *testing.F) {
	f.Add(int64(0), int32(1), int16(4), int32(2), batch(0, 1, 4, records("a", "b")...)[61:], int64(1))
	f.Add(int64(1), int32(9), int16(0), int32(0), []byte{}, int64(5))
	f.Fuzz(func(t *testing.T, first int64, last int32, attributes int16, count int32, records []byte, from int64) {
		b := kmsg.RecordBatch{FirstOffset: first, Magic: 2, LastOffsetDelta: last, Attributes: attributes, NumRecords: count, Records: records}
		after := from
		next, err := new(wire.Decompressor).Messages(wire.AppendBatch(nil, b), from, func(m *sarama.ConsumerMessage) error {
			if m.Offset < after {
				t.Errorf("offset %d or a later one is to come, and %d is handed over", after, m.Offset)
			}
			after = m.Offset + 1
			return nil
		})
		if err != nil || next < from {
			t.Errorf("from %d to %d, %v", from, next, err)
		}
	})
}
