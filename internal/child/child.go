// Package child is test support: processes that do not outlive the test that started them.
package child

import (
	"os"
	"os/exec"
	"runtime"
)

// Process is a child process. Its own goroutine starts the process and waits for its end.
type Process struct {
	cmd   *exec.Cmd        // also keeps the ends of its pipes, which the garbage collector would close
	ended chan struct{}    // closed when the process has ended and was waited for
	state *os.ProcessState // set before ended is closed
}

// Start starts cmd. It never calls cmd.Wait, which would close pipes that are being read, and would
// obey a context. So cmd must come from exec.Command, and its output must go to files or to pipes
// of the caller. On Linux the kernel kills the process when the test process ends, even by SIGKILL.
// The process has a group of its own, so that Ctrl-C at the terminal does not reach it before the
// test has cleaned up.
func Start(cmd *exec.Cmd) (*Process, error) {
	dieWithParent(cmd)
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ties the child to the thread that started it: the thread must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.state, _ = p.cmd.Process.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// ExitCode waits for the end, and returns the exit status; -1 if a signal ended the process.
func (p *Process) ExitCode() int {
	<-p.ended
	return p.state.ExitCode()
}

// Signal sends a signal; the error is os.ErrProcessDone if the process has ended.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process, also a paused one, and returns when it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.ended
}
