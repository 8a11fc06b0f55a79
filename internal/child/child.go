// Package child is test support: processes that do not outlive the test that started them.
package child

import (
	"os"
	"os/exec"
	"runtime"
)

// Process is a child process with an owner: a goroutine that starts it and waits for its end.
type Process struct {
	process *os.Process
	ended   chan struct{}    // closed when it has ended and was waited for
	state   *os.ProcessState // set before ended is closed
}

// Start starts cmd, of exec.Command, whose output must go to files or to pipes of the caller's:
// nobody calls cmd.Wait, which would close pipes that are being read, and would obey a context.
// On Linux the kernel kills the process when the test process ends, even by SIGKILL, and the
// process is in a group of its own, so that a Ctrl-C at the terminal does not reach it before the
// test has cleaned up.
func Start(cmd *exec.Cmd) (*Process, error) {
	dieWithParent(cmd)
	p := &Process{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ties the child to the thread that started it, so that thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.process = cmd.Process
		started <- err
		if err == nil {
			p.state, _ = p.process.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// PID returns the process's number.
func (p *Process) PID() int { return p.process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// ExitCode returns what the process ended with; -1 if by a signal. It waits for the end.
func (p *Process) ExitCode() int {
	<-p.ended
	return p.state.ExitCode()
}

// Signal sends a signal; the error is os.ErrProcessDone if the process has ended.
func (p *Process) Signal(s os.Signal) error { return p.process.Signal(s) }

// Kill ends the process, also a paused one, and returns when it is gone.
func (p *Process) Kill() {
	p.process.Kill()
	<-p.ended
}
