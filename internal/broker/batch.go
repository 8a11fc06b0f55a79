package broker

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxDecompressed bounds what a compressed batch may become.
const maxDecompressed = 16 * maxMessageBytes

// checkProduce decodes a Produce request and looks into its batches: kfake
// believes their record counts, and decodes the records later without looking.
func checkProduce(req *kmsg.ProduceRequest, body []byte) error {
	// Only this request may be large, so what its arrays announce is compared
	// to what is possible before memory is taken for it.
	r := kbin.Reader{Src: body}
	if req.Version >= 3 {
		r.NullableString()
	}
	r.Int16()
	r.Int32()
	topics := r.ArrayLen()
	for range topics {
		_ = r.String()
		partitions := r.ArrayLen()
		for range partitions {
			r.Int32()
			r.NullableBytes()
		}
		if topics > maxPartitions || partitions > maxPartitions || !r.Ok() {
			return fmt.Errorf("%d topics with %d partitions in one of them", topics, partitions)
		}
	}
	if err := complete(&r); err != nil {
		return err
	}
	if err := req.ReadFrom(body); err != nil {
		return err
	}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if err := checkBatch(p.Records); err != nil {
				return fmt.Errorf("the batch for partition %d: %w", p.Partition, err)
			}
		}
	}
	return nil
}

// Where a batch (of version 2) has these; its checksum is over everything from
// checksummed on.
const (
	lengthEnd      = 12
	crcAt          = 17
	checksummed    = 21
	maxTimestampAt = 35
)

// checkBatch checks one batch, and writes the largest timestamp of its records
// to where that belongs, as a real broker does: sarama leaves -1 there, and no
// record could be found by its time.
func checkBatch(b []byte) error {
	var batch kmsg.RecordBatch
	if err := batch.ReadFrom(b); err != nil {
		return err
	}
	if batch.Magic != 2 {
		return nil // the broker refuses it, with an answer that says so
	}
	if int(batch.Length) != len(b)-lengthEnd {
		return fmt.Errorf("it has %d bytes and says %d", len(b)-lengthEnd, batch.Length)
	}
	if batch.NumRecords < 1 || batch.LastOffsetDelta != batch.NumRecords-1 {
		return fmt.Errorf("%d records, the last with number %d", batch.NumRecords, batch.LastOffsetDelta)
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if batch.CRC != int32(crc32.Checksum(b[checksummed:], castagnoli)) {
		return errors.New("wrong checksum")
	}
	records, err := decompress(batch.Records, batch.Attributes&7)
	if err != nil {
		return err
	}
	newest, err := checkRecords(records, int(batch.NumRecords))
	if err != nil {
		return err
	}
	if newest += batch.FirstTimestamp; newest != batch.MaxTimestamp {
		binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(newest))
		binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[checksummed:], castagnoli))
	}
	return nil
}

// checkRecords walks n records, which must be all that there is, and returns
// the largest timestamp among them (as a difference to the batch's first one).
func checkRecords(records []byte, n int) (newest int64, err error) {
	all := kbin.Reader{Src: records}
	for i := range n {
		r := kbin.Reader{Src: all.Span(int(all.Varint()))}
		r.Int8() // attributes
		timestamp := r.Varlong()
		number := r.Varint()
		r.VarintBytes() // key
		r.VarintBytes() // value
		for range r.VarintArrayLen() {
			r.VarintBytes() // header's key
			r.VarintBytes() // header's value
		}
		if err := complete(&r); err != nil || !all.Ok() {
			return 0, fmt.Errorf("record %d is too short or too long", i)
		}
		if int(number) != i {
			return 0, fmt.Errorf("record %d has number %d", i, number)
		}
		if i == 0 || timestamp > newest {
			newest = timestamp
		}
	}
	return newest, complete(&all)
}

// decompress returns a batch's records. Nothing keeps them: this is only to see
// whether they are good.
func decompress(b []byte, codec int16) ([]byte, error) {
	switch codec {
	case 0:
		return b, nil
	case 1:
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return readBounded(r)
	case 2:
		return snappy(b)
	case 3:
		return readBounded(lz4.NewReader(bytes.NewReader(b)))
	case 4:
		r, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxDecompressed))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return readBounded(r)
	}
	return nil, fmt.Errorf("unknown compression %d", codec)
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDecompressed+1))
	if err == nil && len(b) > maxDecompressed {
		err = errTooLarge()
	}
	return b, err
}

func errTooLarge() error {
	return fmt.Errorf("more than %d bytes when decompressed", maxDecompressed)
}

// snappy decompresses one block, or the several of the framing that Java's
// clients use: a header of 16 bytes, then each block after its length.
func snappy(b []byte) ([]byte, error) {
	const framed, header = "\x82SNAPPY\x00", 16
	if !bytes.HasPrefix(b, []byte(framed)) || len(b) <= header {
		return snappyBlock(nil, b)
	}
	var all []byte
	r := kbin.Reader{Src: b[header:]}
	for len(r.Src) > 0 {
		block := r.Span(int(r.Int32()))
		if !r.Ok() {
			return nil, errors.New("a snappy block is cut")
		}
		var err error
		if all, err = snappyBlock(all, block); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// snappyBlock appends what block decompresses to.
func snappyBlock(all, block []byte) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if n > maxDecompressed-len(all) {
		return nil, errTooLarge()
	}
	decoded, err := s2.Decode(nil, block)
	return append(all, decoded...), err
}
