package broker

import (
	"fmt"
	"os"
	"path/filepath"
)

// dirLock keeps a second process out of a data directory: two writers would
// destroy each other's segments.
type dirLock struct{ f *os.File }

// lockDir makes dir if it is missing, and locks it.
func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	ok, err := tryLock(f)
	if err == nil && !ok {
		err = fmt.Errorf("another process is using it")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the data directory %s: %w", dir, err)
	}
	return &dirLock{f}, nil
}

// unlock leaves the file there: removing it would let a third process lock a
// new file of that name while the second one waits for this one.
func (l *dirLock) unlock() error { return l.f.Close() }
