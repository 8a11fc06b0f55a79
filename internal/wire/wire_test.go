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

// What is read of batches from offset 1 on, headers with the value of their record too, and the end.
func TestMessages(t *testing.T) {
	t.Parallel()
	const plain, lz4, zstd, logAppendTime, control = 0, 3, 4, 8, 32
	large := strings.Repeat("a", 9<<20)
	flipped := batch(2, 2, plain, records("b")...)
	flipped[len(flipped)-1] ^= 1
	odd := func(codec int16, records ...byte) []byte { // says that it has two records
		b := kmsg.RecordBatch{FirstOffset: 5, Magic: 2, LastOffsetDelta: 1, NumRecords: 2, Attributes: codec, Records: records}
		return wire.AppendBatch(nil, b)
	}
	place := func(delta int32) []byte { return (&kmsg.Record{Length: 6, OffsetDelta: delta}).AppendTo(nil) }
	const twoLeftOut, skipped = "6=(offsets 5 to 6 (2 records) were left out: ", " kafkachat-skipped "
	for name, c := range map[string]struct {
		batches [][]byte
		want    string
		next    int64
		err     string
	}{
		"plain and compressed": {[][]byte{batch(0, 1, plain, records("a", "b")...), batch(2, 2, zstd, records("c")...)}, "1=b@1005 k 2=c@1005 k ", 3, ""},
		"the broker's time":    {[][]byte{batch(1, 1, logAppendTime, records("a")...)}, "1=a@2000 k ", 2, ""},
		"some compacted away":  {[][]byte{batch(0, 9, zstd, records("a", "b")...)}, "8=a@1005 k 9=b@1005 k ", 10, ""},
		"emptied by compaction, and a marker": {[][]byte{batch(1, 9, plain), batch(10, 10, control, records("x")...), batch(11, 19, zstd)},
			"", 20, ""},
		"a bomb": {[][]byte{batch(5, 5, zstd, records(strings.Repeat("a", wire.Limit+1))...), batch(6, 6, plain, records("after")...)},
			"5=(offset 5 was left out: more than 16 MiB when decompressed)@1000" + skipped + "6=after@1005 k ", 7, ""},
		"a bomb of two records": {[][]byte{batch(5, 6, zstd, records(large, large)...)},
			twoLeftOut + "more than 16 MiB when decompressed)@1000" + skipped, 7, ""},
		"many headers": {[][]byte{batch(5, 5, zstd, kmsg.Record{Headers: make([]kmsg.Header, 1<<14+1)})},
			"5=(offset 5 was left out: too many headers)@1000" + skipped, 6, ""},
		"no lz4":              {[][]byte{odd(lz4, 'n', 'o', 'n', 'e')}, twoLeftOut + "lz4: bad magic number)@0" + skipped, 7, ""},
		"no records":          {[][]byte{odd(plain, 200)}, twoLeftOut + "its records are broken)@0" + skipped, 7, ""},
		"one place twice":     {[][]byte{odd(plain, append(place(0), place(0)...)...)}, twoLeftOut + "its records are out of order)@0" + skipped, 7, ""},
		"past the last":       {[][]byte{odd(plain, append(place(0), place(2)...)...)}, twoLeftOut + "its records are out of order)@0" + skipped, 7, ""},
		"the last one is cut": {[][]byte{batch(1, 1, zstd, records("a")...), batch(2, 2, zstd, records("b")...)[:70]}, "1=a@1005 k ", 2, ""},
		"a wrong checksum":    {[][]byte{batch(1, 1, plain, records("a")...), flipped}, "1=a@1005 k ", 2, "checksum"},
		"a format of 2016":    {[][]byte{make([]byte, 29)}, "", 1, wire.ErrFormat.Error()},
		"somebody has enough": {[][]byte{batch(5, 5, zstd, records("a")...), batch(6, 9, plain, records("b", "stop", "c")...)},
			"5=a@1005 k 7=b@1005 k ", 6, "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			next, err := new(wire.Decompressor).Messages(bytes.Join(c.batches, nil), 1, func(m *sarama.ConsumerMessage) error {
				if string(m.Value) == "stop" {
					return errors.New("stop")
				}
				fmt.Fprintf(&got, "%d=%s@%d ", m.Offset, m.Value, m.Timestamp.UnixMilli())
				for _, h := range m.Headers {
					if strings.Trim(string(m.Value), "()") == string(h.Value) {
						fmt.Fprintf(&got, "%s ", h.Key)
					}
				}
				return nil
			})
			if got.String() != c.want || next != c.next || (c.err == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), c.err) {
				t.Errorf("got %.300q, next %d, %v, want %q, %d, %q", got.String(), next, err, c.want, c.next, c.err)
			}
		})
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
