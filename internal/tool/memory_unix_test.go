//go:build unix

package tool_test

import (
	"os"
	"runtime"
	"syscall"
)

// peakMemory returns the most bytes of memory that a process had.
func peakMemory(state *os.ProcessState) int64 {
	peak := int64(state.SysUsage().(*syscall.Rusage).Maxrss)
	if runtime.GOOS != "darwin" {
		peak <<= 10 // kilobytes there
	}
	return peak
}
