package page_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestClientScript plays testdata/client.txt with client.js, in Node. The Go client of the fault suite plays it too.
func TestClientScript(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Node found, and CI must not skip: install the package nodejs")
		}
		t.Skip("no Node found: install nodejs to run client.js against the script")
	}
	out, err := exec.Command(node, "testdata/client_test.mjs").CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 failed") {
		t.Errorf("%v\n%s", err, out)
	}
}
