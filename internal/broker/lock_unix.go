//go:build unix

package broker

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes f's lock for this process, which loses it when it ends,
// however it ends. It reports false if another process has it.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
