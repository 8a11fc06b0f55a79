package broker

import (
	"errors"
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
		return nil, fmt.Errorf("making the data directory %s: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory %s: %w", dir, err)
	}
	ok, err := tryLock(f)
	if err == nil && !ok {
		err = errors.New("another process is using it")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the data directory %s: %w", dir, err)
	}
	return &dirLock{f}, nil
}

// unlock leaves the file there: removing it would let a third process lock a
// new file of that name beside one that has this file open.
func (l *dirLock) unlock() error {
	if err := l.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("unlocking the data directory: %w", err)
	}
	return nil
}
