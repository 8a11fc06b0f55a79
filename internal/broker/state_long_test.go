//go:build long && linux

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

// TestState is FuzzState for STATE_TIME, 5 s if that is not set, with each of ten seeds, every second
// time with a folder for records.
func TestState(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("STATE_TIME"), "5s"))
	check(t, err)
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as chatserver does
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			debug.FreeOSMemory()
			check(t, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // the peak begins anew
			b := start(t, Config{Topic: "fuzz", DataDir: []string{"", t.TempDir()}[seed%2]})
			end := time.Now().Add(length)
			askMany(t, b.Addr(), 1000+seed, func(int) bool { return time.Now().Before(end) })
			b.Close()
			status, _ := os.ReadFile("/proc/self/status")
			_, peak, _ := strings.Cut(string(status), "VmHWM:")
			var kb int
			fmt.Sscan(peak, &kb)
			if t.Logf("%d MB resident at most", kb>>10); kb == 0 || kb >= 300<<10 {
				t.Errorf("%d kB resident, want less than 300 MB", kb)
			}
		})
	}
}
