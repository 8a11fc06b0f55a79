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

// Limit is the largest size of a batch's records after decompression, in bytes.
const Limit = 16 << 20

// ErrTooLarge says that a batch's records are too large after decompression.
var ErrTooLarge = fmt.Errorf("more than %d MiB when decompressed", Limit>>20)

// A Decompressor keeps its codecs for reuse. Its zero value is ready. One goroutine may use a
// Decompressor at a time.
type Decompressor struct {
	Max int // largest size after decompression; 0 is Limit

	gzip gzip.Reader
	zstd *zstd.Decoder
}

// Decompress returns b decompressed, if the result has at most Max bytes. The result and the error
// depend on b only. Codec is Kafka's number of the compression.
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
		const most = 22 // snappy needs at least 3 bytes for 64
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
		// The decoder's limit is not Max, because it also limits the window: a window may be larger
		// than the data in it.
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
