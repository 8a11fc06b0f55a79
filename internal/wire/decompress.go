package wire

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Limit bounds what the records of a batch may become when they are decompressed, in bytes.
const Limit = 16 << 20

// ErrTooLarge says that the records of a batch are too many bytes.
var ErrTooLarge = fmt.Errorf("more than %d MiB when decompressed", Limit>>20)

// A Decompressor keeps what its codecs can use again. Its zero value is ready; it is for one
// goroutine.
type Decompressor struct {
	Max int // bytes that a batch may become; 0 is Limit

	gzip *gzip.Reader
	lz4  *lz4.Reader
	zstd *zstd.Decoder
}

// Append appends what b decompresses to, if that is at most Max bytes; whether it is, and the
// error, depend on b only. Codec is Kafka's number of the compression.
func (d *Decompressor) Append(out, b []byte, codec int16) ([]byte, error) {
	limit := cmp.Or(d.Max, Limit)
	switch codec {
	case 0:
		return append(out, b...), nil
	case 1:
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		if err := d.gzip.Reset(bytes.NewReader(b)); err != nil {
			return nil, err
		}
		return readBounded(out, d.gzip, limit)
	case 2:
		return snappy(out, b, limit)
	case 3:
		if d.lz4 == nil {
			d.lz4 = lz4.NewReader(nil)
		}
		d.lz4.Reset(bytes.NewReader(b))
		return readBounded(out, d.lz4, limit)
	case 4:
		if d.zstd == nil {
			var err error
			if d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(Limit)); err != nil {
				return nil, err
			}
		}
		// Its limit counts what is there already.
		decoded, err := d.zstd.DecodeAll(b, out[len(out):])
		// That limit is one for the window too, and so it is not Max: a window may be larger than
		// what is in it.
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || len(decoded) > limit {
			err = ErrTooLarge
		}
		return append(out, decoded...), err
	}
	return nil, fmt.Errorf("unknown compression %d", codec)
}

func readBounded(out []byte, r io.Reader, limit int) ([]byte, error) {
	buffer := bytes.NewBuffer(out)
	n, err := buffer.ReadFrom(io.LimitReader(r, int64(limit)+1))
	if n > int64(limit) {
		err = ErrTooLarge
	}
	return buffer.Bytes(), err
}

// snappy decompresses one block, or the several of the framing that Java's clients use: a header of
// 16 bytes, then each block after its length.
func snappy(out, b []byte, limit int) ([]byte, error) {
	const framed, header = "\x82SNAPPY\x00", 16
	if !bytes.HasPrefix(b, []byte(framed)) || len(b) <= header {
		return snappyBlock(out, b, limit)
	}
	end := len(out) + limit
	for b = b[header:]; len(b) > 0; {
		if len(b) < 4 || int(int32(binary.BigEndian.Uint32(b))) < 0 || int(binary.BigEndian.Uint32(b)) > len(b)-4 {
			return nil, errors.New("a snappy block is cut")
		}
		size := int(binary.BigEndian.Uint32(b))
		var err error
		if out, err = snappyBlock(out, b[4:4+size], end-len(out)); err != nil {
			return nil, err
		}
		b = b[4+size:]
	}
	return out, nil
}

// snappyBlock appends what block decompresses to.
func snappyBlock(out, block []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, ErrTooLarge
	}
	decoded, err := s2.Decode(nil, block)
	return append(out, decoded...), err
}
