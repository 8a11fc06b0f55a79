package child

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// Pause stops the process with SIGSTOP, and returns when all its threads have stopped: a thread
// that runs a moment longer on a busy machine could still answer. For Linux.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		stopped, err := allStopped(p.PID())
		if stopped || err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func allStopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false, os.ErrProcessDone
	}
	for _, stat := range threads {
		line, err := os.ReadFile(stat)
		if err != nil {
			continue // the thread has ended
		}
		// "1234 (name of the thread) T ...": the name may have parentheses too
		if state := line[bytes.LastIndexByte(line, ')')+1:]; !bytes.HasPrefix(state, []byte(" T")) {
			return false, nil
		}
	}
	return true, nil
}

// Resume continues a paused process.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }
