package child_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"kafkachat/internal/child"
)

const role = "CHILD_TEST_PARENT" // is set for the process that stands for a test that is killed

func TestMain(m *testing.M) {
	if os.Getenv(role) == "" {
		os.Exit(m.Run())
	}
	p, err := child.Start(exec.Command("sleep", "600"))
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
	<-p.Ended()
}

// A child does not outlive its parent, however that ends.
func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), role+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	parent.Process.Kill()
	parent.Wait()
	pid, err := strconv.Atoi(line[:max(0, len(line)-1)])
	if err != nil {
		t.Fatalf("the parent says %q", line)
	}
	for deadline := time.Now().Add(10 * time.Second); running(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the child has outlived its parent")
		}
	}
}

// running says whether a process runs: one that nobody has waited for does not.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	var n int
	var name, state string
	if _, err := fmt.Sscan(string(stat), &n, &name, &state); err != nil {
		return false
	}
	return state != "Z"
}

func TestProcess(t *testing.T) {
	p, err := child.Start(exec.Command("cat", "/dev/zero"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGTERM)
	<-p.Ended()
	if code := p.ExitCode(); code != -1 {
		t.Errorf("exit code %d", code)
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal to a process that has ended: %v", err)
	}
	p.Kill() // does nothing now

	if p, err = child.Start(exec.Command("sh", "-c", "exit 3")); err != nil {
		t.Fatal(err)
	}
	if code := p.ExitCode(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if _, err := child.Start(exec.Command("/no such program")); err == nil {
		t.Error("a program that is not there was started")
	}
}
