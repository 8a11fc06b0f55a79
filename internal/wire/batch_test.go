package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// batch is a batch from offset first on, to offset last, compressed with zstd if that is asked for.
func batch(first, last int64, compressed bool, values ...string) []byte {
	var all []kmsg.Record
	for i, v := range values {
		all = append(all, kmsg.Record{OffsetDelta: int32(int(last-first) - len(values) + 1 + i), Value: []byte(v)})
	}
	return batchOf(first, last, compressed, all...)
}

func batchOf(first, last int64, compressed bool, all ...kmsg.Record) []byte {
	var records []byte
	for _, r := range all {
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		records = r.AppendTo(records)
	}
	b := kmsg.RecordBatch{FirstOffset: first, Magic: 2, LastOffsetDelta: int32(last - first), NumRecords: int32(len(all)),
		FirstTimestamp: 1000, MaxTimestamp: 1000, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, Records: records}
	if compressed {
		w, _ := zstd.NewWriter(nil)
		b.Attributes, b.Records = 4, w.EncodeAll(records, nil)
	}
	return AppendBatch(nil, b)
}

// describe says what batches hold, and fails the test if one of them is wrong.
func describe(t *testing.T, batches []byte) string {
	t.Helper()
	var all []string
	for len(batches) >= recordsAt {
		size := lengthEnd + int(binary.BigEndian.Uint32(batches[lengthAt:]))
		if size > len(batches) {
			break
		}
		var b kmsg.RecordBatch
		if err := b.ReadFrom(batches[:size]); err != nil {
			t.Fatal(err)
		}
		if want := crc32.Checksum(batches[attributesAt:size], crc32.MakeTable(crc32.Castagnoli)); uint32(b.CRC) != want {
			t.Errorf("checksum %x, want %x", uint32(b.CRC), want)
		}
		text := fmt.Sprintf("%d-%d:", b.FirstOffset, b.FirstOffset+int64(b.LastOffsetDelta))
		if b.Attributes&compression != 0 {
			text += "compressed"
		} else {
			r := kbin.Reader{Src: b.Records}
			for range b.NumRecords {
				body := kbin.Reader{Src: r.Span(int(r.Varint()))}
				body.Int8()
				body.Varlong()
				offset := b.FirstOffset + int64(body.Varint())
				body.VarintBytes()
				value := string(body.VarintBytes())
				if len(value) > 100 {
					value = value[:5] + "..."
				}
				text += fmt.Sprintf(" %d=%s", offset, value)
			}
			if err := r.Complete(); err != nil {
				t.Error(err)
			}
		}
		all = append(all, text)
		batches = batches[size:]
	}
	return strings.Join(all, "; ")
}

func TestPlain(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("a", 9<<20)
	bomb := batch(5, 5, true, strings.Repeat("a", Limit+1))
	garbage := batch(5, 6, true, "a", "b")
	copy(garbage[recordsAt:], "no zstd")
	join := func(batches ...[]byte) []byte { return bytes.Join(batches, nil) }
	for name, c := range map[string]struct {
		batches   []byte
		want      string
		unchanged bool
	}{
		"nothing":               {nil, "", true},
		"plain records":         {join(batch(0, 1, false, "a", "b"), batch(2, 2, false, "c")), "0-1: 0=a 1=b; 2-2: 2=c", true},
		"compressed ones":       {join(batch(0, 1, true, "a", "b"), batch(2, 2, false, "c"), batch(3, 3, true, "d")), "0-1: 0=a 1=b; 2-2: 2=c; 3-3: 3=d", false},
		"some compacted away":   {batch(0, 9, true, "a", "b"), "0-9: 8=a 9=b", false},
		"emptied by compaction": {join(batch(0, 0, false, "a"), batch(1, 9, false), batch(10, 10, false, "b")), "0-0: 0=a; 9-9:; 10-10: 10=b", false},
		"emptied, compressed":   {batch(1, 9, true), "9-9:", false},
		"a bomb": {join(batch(4, 4, false, "before"), bomb, batch(6, 6, false, "after")),
			"4-4: 4=before; 5-5: 5=(offset 5 was left out: more than 16 MiB when decompressed); 6-6: 6=after", false},
		"a bomb of several": {batch(5, 7, true, large, large), "7-7: 7=(offsets 5 to 7 (2 records) were left out: more than 16 MiB when decompressed)", false},
		"many headers": {batchOf(5, 5, true, kmsg.Record{Headers: make([]kmsg.Header, maxWeight/headerWeight)}),
			"5-5: 5=(offset 5 was left out: too many headers)", false},
		"garbage":                    {garbage, "6-6: 6=(offsets 5 to 6 (2 records) were left out: invalid input: magic number mismatch)", false},
		"more than an answer may be": {join(batch(0, 0, true, large), batch(1, 1, true, large), batch(2, 2, true, "c")), "0-0: 0=aaaaa...; 1-1: 1=aaaaa...", false},
		"the last one is cut":        {join(batch(0, 0, true, "a"), batch(1, 1, true, "b")[:70]), "0-0: 0=a", false},
	} {
		t.Run(name, func(t *testing.T) {
			budget := Limit
			got, changed := new(Decompressor).plain(c.batches, &budget)
			if text := describe(t, got); text != c.want || changed == c.unchanged {
				t.Errorf("got %q (changed: %v), want %q", text, changed, c.want)
			}
			if again, _ := new(Decompressor).plain(c.batches, new(int)); len(c.batches) >= recordsAt && len(again) > 0 {
				t.Errorf("%d bytes though the budget is used up", len(again))
			}
		})
	}
}

// Whatever a batch holds, what comes out is for sarama to read.
func FuzzPlain(f *testing.F) {
	f.Add(batch(0, 1, true, "a", "b"))
	f.Add(batch(1, 9, false))
	f.Fuzz(func(t *testing.T, batches []byte) {
		budget := Limit
		new(Decompressor).plain(batches, &budget)
	})
}
