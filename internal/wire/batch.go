package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SkippedHeader is the header key of a record that replaces a batch that was left out.
const SkippedHeader = "kafkachat-skipped"

// maxHeaders limits a record's headers: a header of 2 bytes in a batch takes 56 bytes of memory.
const maxHeaders = 1 << 14

// ErrFormat says that a batch is of format 0 or 1, from before Kafka 0.11.
var ErrFormat = errors.New("its records are of format 0 or 1 (message.format.version), which this program does not read")

var errCut = errors.New("a batch is cut short, or its length is wrong")

// HeaderLength is the size of a batch (format 2) before its records.
const HeaderLength = 61

// Offsets of the fields of a batch.
const (
	lengthEnd    = 12 // the length counts the bytes from here on
	magicAt      = 16
	checksumAt   = 17
	attributesAt = 21 // the checksum covers the bytes from here on
)

// ReadBatch decodes the batch at the start of b, and returns its size in bytes.
func ReadBatch(b []byte) (batch kmsg.RecordBatch, size int, err error) {
	if len(b) > magicAt && b[magicAt] != 2 {
		return batch, 0, ErrFormat
	}
	err = batch.ReadFrom(b)
	size = lengthEnd + int(batch.Length)
	switch {
	case err != nil, size < HeaderLength, size > len(b):
		err = errCut
	case uint32(batch.CRC) != checksum(b[:size]):
		err = errors.New("a batch has a wrong checksum")
	}
	return batch, size, err
}

// AppendBatch appends b to out, with the right length and checksum.
func AppendBatch(out []byte, b kmsg.RecordBatch) []byte {
	from := len(out)
	b.Length = int32(HeaderLength - lengthEnd + len(b.Records))
	out = b.AppendTo(out)
	binary.BigEndian.PutUint32(out[from+checksumAt:], checksum(out[from:]))
	return out
}

func checksum(batch []byte) uint32 {
	return crc32.Checksum(batch[attributesAt:], crc32.MakeTable(crc32.Castagnoli))
}

// Messages calls take with the records of batches. It skips the records before offset from, and the
// markers of transactions, which no consumer sees. It returns the offset after the last batch, at
// least from. Compaction may have emptied that batch.
func (d *Decompressor) Messages(batches []byte, from int64, take func(*sarama.ConsumerMessage) error) (next int64, err error) {
	for next = from; len(batches) > 0; {
		b, size, err := ReadBatch(batches)
		if errors.Is(err, errCut) {
			break // the last batch of an answer may be cut short
		}
		if err == nil {
			err = d.messages(b, from, take)
		}
		if err != nil {
			return next, err
		}
		next = max(next, b.FirstOffset+int64(b.LastOffsetDelta)+1)
		batches = batches[size:]
	}
	return next, nil
}

// messages calls take with the records of a batch. A batch that cannot be read within the limits is
// left out as a whole, and a record in its place says why. This depends on the batch's bytes only.
func (d *Decompressor) messages(b kmsg.RecordBatch, from int64, take func(*sarama.ConsumerMessage) error) error {
	const compression, logAppendTime, control = 7, 8, 32
	if b.NumRecords == 0 || b.Attributes&control != 0 {
		return nil
	}
	hand := func(r Record) error {
		m := &sarama.ConsumerMessage{Offset: b.FirstOffset + int64(r.Offset), Key: r.key, Value: r.value, Headers: r.headers(),
			Timestamp: time.UnixMilli(b.FirstTimestamp + r.Time)}
		if b.Attributes&logAppendTime != 0 {
			m.Timestamp = time.UnixMilli(b.MaxTimestamp)
		}
		if m.Offset < from {
			return nil
		}
		return take(m)
	}
	records, err := d.Decompress(b.Records, b.Attributes&compression)
	if err == nil {
		place := int32(-1)
		err = Walk(records, int(b.NumRecords), func(r Record) error {
			switch {
			case r.headerCount > maxHeaders:
				return errors.New("too many headers")
			case r.Offset <= place || r.Offset > b.LastOffsetDelta: // Kafka checks this in compressed batches only
				return errors.New("its records are out of order")
			}
			place = r.Offset
			return nil
		})
	}
	if err == nil {
		return Walk(records, int(b.NumRecords), hand)
	}
	last := b.FirstOffset + int64(b.LastOffsetDelta)
	text := fmt.Sprintf("offset %d was left out: %v", last, err)
	if last > b.FirstOffset {
		text = fmt.Sprintf("offsets %d to %d (%d records) were left out: %v", b.FirstOffset, last, b.NumRecords, err)
	}
	header := kbin.AppendVarintBytes(kbin.AppendVarintString(nil, SkippedHeader), []byte(text))
	return hand(Record{Offset: b.LastOffsetDelta, value: []byte("(" + text + ")"), headerCount: 1, headerBytes: header})
}

// A Record is a record of a batch. Time and Offset are relative to those of the batch.
type Record struct {
	Time        int64
	Offset      int32
	key, value  []byte
	headerCount int
	headerBytes []byte
}

func (r Record) headers() (all []*sarama.RecordHeader) {
	raw := kbin.Reader{Src: r.headerBytes}
	for range r.headerCount {
		all = append(all, &sarama.RecordHeader{Key: raw.VarintBytes(), Value: raw.VarintBytes()})
	}
	return all
}

// Walk calls each with every record. It fails unless records holds exactly count whole records.
func Walk(records []byte, count int, each func(Record) error) error {
	broken := errors.New("its records are broken")
	all := kbin.Reader{Src: records}
	for range count {
		r := kbin.Reader{Src: all.Span(int(all.Varint()))}
		r.Int8() // attributes
		record := Record{Time: r.Varlong(), Offset: r.Varint(), key: r.VarintBytes(), value: r.VarintBytes(), headerCount: int(r.Varint())}
		record.headerBytes = r.Src
		for i := 0; i < record.headerCount && r.Ok(); i++ {
			r.VarintBytes()
			r.VarintBytes()
		}
		if !all.Ok() || !r.Ok() || len(r.Src) > 0 || record.headerCount < 0 {
			return broken
		}
		if err := each(record); err != nil {
			return err
		}
	}
	if count < 1 || len(all.Src) > 0 {
		return broken
	}
	return nil
}
