//go:build unix

package room

import (
	"math"
	"syscall"
)

// maxFiles returns how many files, connections among them, this process may have open. Go has raised the limit
// to the most that it may be when the process began.
func maxFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt32
	}
	return int(min(uint64(limit.Cur), math.MaxInt32))
}
