//go:build !linux

package child

import (
	"errors"
	"os/exec"
)

// Only Linux ends a process together with its parent: elsewhere the children of a killed test live
// on.
func dieWithParent(*exec.Cmd) {}

func (p *Process) Pause() error  { return errors.ErrUnsupported }
func (p *Process) Resume() error { return errors.ErrUnsupported }
