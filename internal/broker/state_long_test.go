//go:build long

package broker

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestState is FuzzState for STATE_TIME, 5 s if that is not set, with each of five seeds, once with a
// folder for records and once without.
func TestState(t *testing.T) {
	length := 5 * time.Second
	if v := os.Getenv("STATE_TIME"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			for i, dir := range []string{"", t.TempDir()} {
				b := start(t, Config{Topic: "fuzz", DataDir: dir})
				end := time.Now().Add(length)
				asked := askMany(t, b.Addr(), 1000+2*seed+uint64(i), func(int) bool { return time.Now().Before(end) })
				b.Close()
				mb := residentMB(t)
				t.Logf("%d requests, %d MB resident at most", asked, mb)
				if mb >= 300 {
					t.Errorf("%d MB resident, want less than 300", mb)
				}
			}
		})
	}
}

// residentMB is the most memory that this process has had, where Linux says so.
func residentMB(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb >> 10
}
