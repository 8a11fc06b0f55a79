package realkafka

import (
	"os"
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the process when the test process ends, even by SIGKILL. Its own process group keeps
// a Ctrl-C at the terminal from reaching it before the test has cleaned up.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

func pause(p *os.Process) error  { return p.Signal(syscall.SIGSTOP) }
func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
