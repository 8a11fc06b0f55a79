package sockets_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// What the kernel keeps for a client that does not read is bounded, as what the server keeps is.
func TestSendBuffer(t *testing.T) {
	t.Parallel()
	s := newTCP(t, 64<<20)
	s.dial("/", 4096).want("hello", "live")
	port := s.http.Listener.Addr().(*net.TCPAddr).Port
	s.makeSlow(nil)
	s.fill(16 << 20)
	for before := -1; ; time.Sleep(200 * time.Millisecond) {
		queued := sendQueue(t, port)
		switch {
		case queued == 0, queued > 256<<10:
			t.Fatalf("the kernel keeps %d bytes", queued)
		case queued == before:
			t.Logf("the kernel keeps %d bytes", queued)
			return
		}
		before = queued
	}
}

// sendQueue returns how many bytes the kernel keeps to be sent from a local port.
func sendQueue(t *testing.T, port int) (bytes int) {
	t.Helper()
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var n, local, remote, state, queue string
			fmt.Sscan(lines.Text(), &n, &local, &remote, &state, &queue)
			if strings.HasSuffix(local, fmt.Sprintf(":%04X", port)) && state == "01" { // established
				var q int
				fmt.Sscanf(queue, "%X:", &q)
				bytes += q
			}
		}
		f.Close()
	}
	return bytes
}
