package child_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"kafkachat/internal/child"
)

const role = "CHILD_TEST_PARENT" // is set for the process that stands for a test that is killed

func TestMain(m *testing.M) {
	if os.Getenv(role) == "" {
		os.Exit(m.Run())
	}
	sleep := exec.Command("sleep", "120")
	sleep.Stdout = os.Stdout
	_, err := child.Start(sleep)
	fmt.Println("started:", err)
	time.Sleep(time.Hour)
}

// A child does not outlive its parent, however that ends.
func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), role+"=1")
	pipe, err := parent.StdoutPipe()
	if err := errors.Join(err, parent.Start()); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	if line, _ := out.ReadString('\n'); line != "started: <nil>\n" {
		t.Errorf("the parent says %q", line)
	}
	parent.Process.Kill()
	killed := time.Now()
	io.Copy(io.Discard, out) // until neither of them has the pipe's other end
	if after := time.Since(killed); after > time.Minute {
		t.Errorf("the child has outlived its parent by %s", after)
	}
	parent.Wait()
}
