package scale

import (
	"math/bits"
	"time"
)

// A Histogram counts durations. Each power of two has 32 buckets of the same width, so that a
// value read from it is at most 1/32 too large.
type Histogram []uint64

const fine = 5 // bits of a duration that are kept, after the first

// bucket is where a duration is counted.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(0, bits.Len64(v)-fine-1)
	return shift<<fine + int(v>>shift)
}

// top is the longest duration that is counted in bucket i.
func top(i int) time.Duration {
	shift := max(0, i>>fine-1)
	return time.Duration((uint64(i-shift<<fine)+1)<<shift - 1)
}

func (h *Histogram) add(d time.Duration) {
	i := bucket(d)
	for len(*h) <= i {
		*h = append(*h, 0)
	}
	(*h)[i]++
}

func (h *Histogram) merge(other Histogram) {
	for len(*h) < len(other) {
		*h = append(*h, 0)
	}
	for i, n := range other {
		(*h)[i] += n
	}
}

// quantile is the duration that a share q of all do not exceed; 0 if there are none.
func (h Histogram) quantile(q float64) time.Duration {
	var all uint64
	for _, n := range h {
		all += n
	}
	var sum uint64
	for i, n := range h {
		if sum += n; sum > 0 && float64(sum) >= q*float64(all) {
			return top(i)
		}
	}
	return 0
}
