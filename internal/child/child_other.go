//go:build !linux

package child

import (
	"errors"
	"os/exec"
)

// Only Linux ends a process together with its parent: elsewhere a test that is killed leaves its children behind.
func dieWithParent(*exec.Cmd) {}

func (p *Process) Pause() error  { return errors.ErrUnsupported }
func (p *Process) Resume() error { return errors.ErrUnsupported }
