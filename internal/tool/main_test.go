package tool_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain builds the two programs, with the race detector if the test has it, and puts them on the PATH.
func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "tools-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, buildFlags...)
	build := exec.Command("go", append(args, "kafkachat/kafkawrite", "kafkachat/kafkaread")...)
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building kafkawrite and kafkaread: %w\n%s", err, out)
	}
	path := dir + string(filepath.ListSeparator) + os.Getenv("PATH")
	if err := os.Setenv("PATH", path); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
