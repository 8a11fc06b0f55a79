//go:build long

package broker

import (
	"cmp"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// TestState is FuzzState for STATE_TIME, 5 s if that is not set, with each of five seeds, once with a
// folder for records and once without.
func TestState(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("STATE_TIME"), "5s"))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			for i, dir := range []string{"", t.TempDir()} {
				debug.FreeOSMemory()
				if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak begins anew
					t.Skip(err) // this is no Linux
				}
				b := start(t, Config{Topic: "fuzz", DataDir: dir})
				end := time.Now().Add(length)
				asked := askMany(t, b.Addr(), 1000+2*seed+uint64(i), func(int) bool { return time.Now().Before(end) })
				b.Close()
				status, _ := os.ReadFile("/proc/self/status")
				_, peak, _ := strings.Cut(string(status), "VmHWM:")
				var kb int
				fmt.Sscan(peak, &kb)
				t.Logf("%d requests, %d MB resident at most", asked, kb>>10)
				if kb == 0 || kb >= 300<<10 {
					t.Errorf("%d kB resident, want less than 300 MB", kb)
				}
			}
		})
	}
}
