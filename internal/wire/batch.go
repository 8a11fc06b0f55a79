package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// maxRecords is the most records of a batch that sarama takes.
	maxRecords = 2 * 65535
	// A record and a header of a record take this much more memory than their bytes.
	recordWeight, headerWeight = 300, 64
	maxWeight                  = 4 * Limit
)

// SkippedHeader is the header of a record that stands for a batch that was left out: its key.
const SkippedHeader = "kafkachat-skipped"

// Where a batch (of format 2) has these.
const (
	lengthAt, lengthEnd = 8, 12 // it counts what follows
	checksumAt          = 17    // it is over everything from attributes on
	attributesAt        = 21
	recordsAt           = 61

	compression = 7 // of the attributes
)

// plain returns batches with their records decompressed, and whether they are others than before.
// It takes what they weigh from budget; when that is used up it leaves the rest away, for another
// fetch.
func (d *Decompressor) plain(batches []byte, budget *int) (out []byte, changed bool) {
	kept := 0 // bytes of batches that out need not copy yet
	for at := 0; len(batches)-at >= recordsAt; {
		size := lengthEnd + int(int32(binary.BigEndian.Uint32(batches[at+lengthAt:])))
		var b kmsg.RecordBatch
		if size < recordsAt || size > len(batches)-at || b.ReadFrom(batches[at:at+size]) != nil || b.Magic != 2 {
			break // the last batch of an answer may be cut, and formats before 2 are of Kafka 0.10
		}
		if *budget <= 0 {
			return append(out, batches[kept:at]...), true
		}
		weight := size
		if b.NumRecords <= 0 || b.NumRecords > maxRecords || b.Attributes&compression != 0 {
			weight = d.rewrite(&b)
			out = AppendBatch(append(out, batches[kept:at]...), b)
			kept, changed = at+size, true
		}
		*budget -= weight
		at += size
	}
	if !changed {
		return batches, false
	}
	return append(out, batches[kept:]...), true
}

// AppendBatch appends b with the length and the checksum that it should have.
func AppendBatch(out []byte, b kmsg.RecordBatch) []byte {
	from := len(out)
	b.Length = int32(recordsAt - lengthEnd + len(b.Records))
	out = b.AppendTo(out)
	binary.BigEndian.PutUint32(out[from+checksumAt:], crc32.Checksum(out[from+attributesAt:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

// rewrite decompresses the records of b, and returns what they weigh. A batch that has none, or
// that has too much, is moved to its last offset: there it has none, or one that says what was left
// out and why. That depends on the batch's bytes only.
func (d *Decompressor) rewrite(b *kmsg.RecordBatch) (weight int) {
	records, err := b.Records, error(nil)
	if b.NumRecords > maxRecords {
		err = fmt.Errorf("%d records in one batch, of which this client reads at most %d", b.NumRecords, maxRecords)
	} else if b.NumRecords > 0 {
		if records, err = d.Decompress(b.Records, b.Attributes&compression); err == nil {
			weight, err = weigh(records, int(b.NumRecords))
		}
	}
	b.Attributes &^= compression
	if b.NumRecords > 0 && err == nil {
		b.Records = records
		return weight
	}
	first, last, count := b.FirstOffset, b.FirstOffset+int64(b.LastOffsetDelta), b.NumRecords
	b.FirstOffset, b.LastOffsetDelta, b.NumRecords, b.Records = last, 0, 0, nil
	if err == nil {
		return recordsAt
	}
	text := fmt.Sprintf("offset %d was left out: %v", last, err)
	if first != last {
		text = fmt.Sprintf("offsets %d to %d (%d records) were left out: %v", first, last, count, err)
	}
	r := kmsg.Record{Value: []byte("(" + text + ")"), Headers: []kmsg.Header{{Key: SkippedHeader, Value: []byte(text)}}}
	r.Length = int32(len(r.AppendTo(nil)) - 1) // it does not count itself, and is one byte while it is 0
	b.NumRecords, b.Records = 1, r.AppendTo(nil)
	return recordsAt + len(b.Records)
}

// weigh returns how much memory the records take in sarama.
func weigh(records []byte, count int) (weight int, err error) {
	weight = len(records) + count*recordWeight
	err = Walk(records, count, func(_ int64, _ int32, headers int) error {
		if weight += headers * headerWeight; weight > maxWeight {
			return errors.New("too many headers")
		}
		return nil
	})
	return weight, err
}

// Walk calls each with the time and the offset of every record, as differences to the batch's first,
// and with the number of its headers. It fails if records are not count whole ones and nothing else.
func Walk(records []byte, count int, each func(time int64, offset int32, headers int) error) error {
	broken := errors.New("they are no records when they are decompressed")
	all := kbin.Reader{Src: records}
	for range count {
		r := kbin.Reader{Src: all.Span(int(all.Varint()))}
		r.Int8() // attributes
		time, offset := r.Varlong(), r.Varint()
		r.VarintBytes() // key
		r.VarintBytes() // value
		headers := int(r.Varint())
		for i := 0; i < headers && r.Ok(); i++ {
			r.VarintBytes()
			r.VarintBytes()
		}
		if !all.Ok() || !r.Ok() || len(r.Src) > 0 || headers < 0 {
			return broken
		}
		if err := each(time, offset, headers); err != nil {
			return err
		}
	}
	if count < 1 || len(all.Src) > 0 {
		return broken
	}
	return nil
}
