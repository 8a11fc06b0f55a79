//go:build !linux

package child

import (
	"errors"
	"os"
	"os/exec"
)

// Only Linux ends a process together with its parent: elsewhere a test that is killed leaves its children behind.
func dieWithParent(*exec.Cmd) {}

func pause(*os.Process) error  { return errors.ErrUnsupported }
func resume(*os.Process) error { return errors.ErrUnsupported }
