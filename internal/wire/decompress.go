package wire

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy/xerial"
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

	gzip gzip.Reader
	zstd *zstd.Decoder
}

// Decompress returns what b decompresses to, if that is at most Max bytes; whether it is, and the
// error, depend on b only. Codec is Kafka's number of the compression.
func (d *Decompressor) Decompress(b []byte, codec int16) ([]byte, error) {
	limit := cmp.Or(d.Max, Limit)
	switch codec {
	case 0:
		return b, nil
	case 1:
		if err := d.gzip.Reset(bytes.NewReader(b)); err != nil {
			return nil, err
		}
		return readBounded(&d.gzip, limit)
	case 2:
		const most = 22 // snappy's best is 3 bytes for 64
		out, err := xerial.DecodeCapped(make([]byte, 0, min(limit, most*len(b))), b)
		if errors.Is(err, xerial.ErrDstTooSmall) {
			err = ErrTooLarge
		}
		return out, err
	case 3:
		return readBounded(lz4.NewReader(bytes.NewReader(b)), limit)
	case 4:
		if d.zstd == nil {
			var err error
			if d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(Limit)); err != nil {
				return nil, err
			}
		}
		out, err := d.zstd.DecodeAll(b, nil)
		// Its limit is one for the window too, and so it is not Max: a window may be larger than what
		// is in it.
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || len(out) > limit {
			err = ErrTooLarge
		}
		return out, err
	}
	return nil, fmt.Errorf("unknown compression %d", codec)
}

func readBounded(r io.Reader, limit int) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if len(out) > limit {
		err = ErrTooLarge
	}
	return out, err
}
