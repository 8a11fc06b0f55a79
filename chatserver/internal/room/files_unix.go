//go:build unix

package room

import (
	"math"
	"syscall"
)

// maxFiles returns the number of files that this process may have open; each connection is one. The
// Go runtime raised the limit to its maximum when the process began.
func maxFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt32
	}
	return int(min(uint64(limit.Cur), math.MaxInt32))
}
