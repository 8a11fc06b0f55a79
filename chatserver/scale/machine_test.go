//go:build scale && linux

package scale

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kafkachat/internal/realkafka"
)

// cpuTime is the user and system time of a process, of all threads that it has and had.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	const perProcess = 2 // CPUCLOCK_SCHED in the kernel: to the nanosecond, unlike /proc/PID/stat
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess), &ts); err != nil {
		t.Fatalf("reading the CPU time of process %d: %v", pid, err)
	}
	return time.Duration(ts.Nano())
}

// read reads a file of the kernel, all of which there are.
func read(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}

// rss is the resident memory of a process, in bytes.
func rss(pid int) float64 {
	var pages, resident int
	fmt.Sscan(read(fmt.Sprintf("/proc/%d/statm", pid)), &pages, &resident)
	return float64(resident * os.Getpagesize())
}

// machineTime is what all cores have spent since the start, working and in all, in some unit.
func machineTime() (busy, all float64) {
	var user, nice, system, idle, iowait, irq, softirq, steal float64
	fmt.Sscanf(read("/proc/stat"), "cpu %f %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal)
	busy = user + nice + system + irq + softirq + steal
	return busy, busy + idle + iowait
}

// machine describes where and how this was measured.
func machine() string {
	model := regexp.MustCompile(`model name\s*: (.*)`).FindStringSubmatch(read("/proc/cpuinfo") + "\nmodel name: unknown CPU")[1]
	return fmt.Sprintf("%s, %d cores, for pods, load and Kafka together; Linux %s, %s, Apache Kafka %s, one broker.\n`%s`\n", model,
		runtime.NumCPU(), strings.TrimSpace(read("/proc/sys/kernel/osrelease")), runtime.Version(), realkafka.Version, strings.Join(os.Args[1:], " "))
}
