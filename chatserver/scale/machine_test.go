//go:build scale && linux

package scale

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// rss is the resident memory of a process, in bytes.
func rss(t *testing.T, pid int) float64 {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pages, resident int
	fmt.Sscan(string(statm), &pages, &resident)
	return float64(resident * os.Getpagesize())
}

// machineTime is what all cores have spent since the start, working and in all, in some unit.
func machineTime(t *testing.T) (busy, all float64) {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var user, nice, system, idle, iowait, irq, softirq, steal float64
	fmt.Sscanf(string(stat), "cpu %f %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal)
	busy = user + nice + system + irq + softirq + steal
	return busy, busy + idle + iowait
}

// machine describes where and how this was measured.
func machine() string {
	model, kernel := "unknown CPU", "unknown"
	if cpuinfo, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(cpuinfo)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
			}
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(release))
	}
	command := "go test -tags scale -timeout 30m -v ./chatserver/scale/"
	flag.Visit(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, "scale.") && f.Name != "scale.table" && f.Name != "scale.plot" {
			command += fmt.Sprintf(" -%s %s", f.Name, f.Value)
		}
	})
	return fmt.Sprintf("%s, %d cores, for pods, load and Kafka together; Linux %s, %s, Apache Kafka %s, one broker.\n`%s`\n",
		model, runtime.NumCPU(), kernel, runtime.Version(), kafkaVersion, command)
}
