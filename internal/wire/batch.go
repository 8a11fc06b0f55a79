package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kbin"
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

// Where a batch (of format 2) has these. Its checksum is over everything from attributes on.
const (
	lengthAt     = 8
	lengthEnd    = 12
	formatAt     = 16
	checksumAt   = 17
	attributesAt = 21
	deltaAt      = 23 // of its last offset from its first
	countAt      = 57
	recordsAt    = 61

	compression = 7 // of the attributes
)

// plain returns batches with their records decompressed, and whether they are others than before.
// It takes what they weigh from budget; when that is used up it leaves the rest away, for another
// fetch.
func (d *Decompressor) plain(batches []byte, budget *int) (out []byte, changed bool) {
	kept := 0 // bytes of batches that out need not copy yet
	for at := 0; len(batches)-at >= recordsAt; {
		batch := batches[at:]
		size := lengthEnd + int(int32(binary.BigEndian.Uint32(batch[lengthAt:])))
		if size < recordsAt || size > len(batch) || batch[formatAt] != 2 {
			break // the last batch of an answer may be cut, and formats before 2 are of Kafka 0.10
		}
		batch = batch[:size]
		if *budget <= 0 {
			return append(out, batches[kept:at]...), true
		}
		weight := size
		if count := int32(binary.BigEndian.Uint32(batch[countAt:])); count <= 0 || count > maxRecords || batch[attributesAt+1]&compression != 0 {
			out = append(out, batches[kept:at]...)
			from := len(out)
			if count <= 0 {
				out = appendEmptied(out, batch)
			} else {
				out = d.appendPlain(out, batch, int(count), &weight)
			}
			sum := crc32.Checksum(out[from+attributesAt:], crc32.MakeTable(crc32.Castagnoli))
			binary.BigEndian.PutUint32(out[from+lengthAt:], uint32(len(out)-from-lengthEnd))
			binary.BigEndian.PutUint32(out[from+checksumAt:], sum)
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

// appendEmptied appends a batch without records at the last offset of what was there.
func appendEmptied(out, batch []byte) []byte {
	last := lastOffset(batch)
	from := len(out)
	out = append(out, batch[:recordsAt]...)
	out[from+attributesAt+1] &^= compression
	binary.BigEndian.PutUint64(out[from:], uint64(last))
	binary.BigEndian.PutUint32(out[from+deltaAt:], 0)
	return out
}

func lastOffset(batch []byte) int64 {
	return int64(binary.BigEndian.Uint64(batch)) + int64(int32(binary.BigEndian.Uint32(batch[deltaAt:])))
}

// appendPlain appends the batch with its records decompressed, or what stands for it.
func (d *Decompressor) appendPlain(out, batch []byte, count int, weight *int) []byte {
	from := len(out)
	out = append(out, batch[:recordsAt]...)
	out[from+attributesAt+1] &^= compression
	codec := int16(batch[attributesAt+1] & compression)
	whole, err := d.Append(out, batch[recordsAt:], codec)
	if err == nil {
		*weight, err = weigh(whole[from+recordsAt:], count)
	}
	if err == nil {
		return whole
	}
	return appendSkipped(out[:from], batch, count, err)
}

// weigh walks the records, and returns how much memory they take in sarama.
func weigh(records []byte, count int) (weight int, err error) {
	if count > maxRecords {
		return 0, fmt.Errorf("%d records in one batch, of which this client reads at most %d", count, maxRecords)
	}
	weight = len(records) + count*recordWeight
	all := kbin.Reader{Src: records}
	for range count {
		r := kbin.Reader{Src: all.Span(int(all.Varint()))}
		r.Int8()        // attributes
		r.Varlong()     // time
		r.Varint()      // offset
		r.VarintBytes() // key
		r.VarintBytes() // value
		headers := int(r.Varint())
		for range headers {
			r.VarintBytes()
			r.VarintBytes()
			if !r.Ok() {
				break
			}
		}
		weight += max(0, headers) * headerWeight
		switch {
		case !all.Ok() || r.Complete() != nil || headers < 0:
			return 0, errors.New("they are no records when they are decompressed")
		case weight > maxWeight:
			return 0, errors.New("too many headers")
		}
	}
	return weight, all.Complete()
}

// appendSkipped appends a batch with one record, at the batch's last offset, which says that the
// batch was left out and why. It depends on the batch's bytes only.
func appendSkipped(out, batch []byte, count int, why error) []byte {
	first, last := int64(binary.BigEndian.Uint64(batch)), lastOffset(batch)
	where := fmt.Sprintf("offset %d was", last)
	if first != last {
		where = fmt.Sprintf("offsets %d to %d (%d records) were", first, last, count)
	}
	text := fmt.Sprintf("%s left out: %v", where, why)
	var record []byte
	record = append(record, 0, 0, 0)             // attributes, time, offset: as the batch has them
	record = kbin.AppendVarintBytes(record, nil) // key
	record = kbin.AppendVarintBytes(record, []byte("("+text+")"))
	record = kbin.AppendVarint(record, 1)
	record = kbin.AppendVarintString(record, SkippedHeader)
	record = kbin.AppendVarintBytes(record, []byte(text))

	from := len(out)
	out = append(out, batch[:recordsAt]...)
	out[from+attributesAt+1] &^= compression
	binary.BigEndian.PutUint64(out[from:], uint64(last))
	binary.BigEndian.PutUint32(out[from+deltaAt:], 0)
	binary.BigEndian.PutUint32(out[from+countAt:], 1)
	out = kbin.AppendVarint(out, int32(len(record)))
	return append(out, record...)
}
