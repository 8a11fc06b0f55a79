package child_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"kafkachat/internal/child"
)

// A child does not outlive its parent, however the parent ends. The parent is this test in another process.
func TestChildDiesWithItsParent(t *testing.T) {
	if os.Getenv("CHILD_TEST_PARENT") != "" {
		sleep := exec.Command("sleep", "120")
		sleep.Stdout = os.Stdout
		if _, err := child.Start(sleep); err == nil {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		os.Exit(1)
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestChildDiesWithItsParent$")
	parent.Env = append(os.Environ(), "CHILD_TEST_PARENT=yes")
	begun := time.Now()
	out, err := parent.CombinedOutput() // until neither of them has the pipe's other end
	if took := time.Since(begun); err == nil || err.Error() != "signal: killed" || took > time.Minute {
		t.Errorf("the parent ended with %v, the child after %s:\n%s", err, took, out)
	}
}
