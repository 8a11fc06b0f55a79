//go:build long

package main

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// ended waits until the server has closed the connection, and returns how long that took.
func ended(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begun := time.Now()
	c.SetReadDeadline(begun.Add(patience))
	_, err := io.Copy(io.Discard, c)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Errorf("still open after %v", patience)
	}
	return time.Since(begun)
}

// Who opens a connection and dawdles loses it, whatever he is in the middle of.
func TestDawdlersAreClosed(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil)
	var all sync.WaitGroup
	for name, say := range map[string]string{
		"says nothing":             "",
		"stops in the first line":  "GET / HT",
		"stops in the headers":     "GET / HTTP/1.1\r\nHost: localhost\r\nX-",
		"stops in a handshake":     "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-",
		"stops in a body":          "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc",
		"stops in a body of parts": "POST /ws HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	} {
		c := a.connect()
		if _, err := io.WriteString(c, say); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if took := ended(t, c); took > 40*time.Second { // 10 s, on a machine that is not busy
				t.Errorf("a client that %s was closed after %v", name, took)
			}
		})
	}
	all.Go(func() { // one header a second: each byte is progress, the whole is none
		c := a.connect()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n")
		for begun := time.Now(); ; time.Sleep(time.Second) {
			if _, err := io.WriteString(c, "X-Y: z\r\n"); err != nil {
				return
			}
			if time.Since(begun) > 40*time.Second {
				t.Error("a client that dribbles headers is still there")
				return
			}
		}
	})
	all.Wait()
}

// Who asks for pages and does not read them loses the connection; a websocket that is only quiet
// keeps it.
func TestTimeoutsOfAnAnswerAreNotThoseOfAWebsocket(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil)
	quiet := a.raw("")
	deaf := a.connect()
	begun := time.Now()
	go func() {
		for { // until the server does not read any more, and then until it has closed
			if _, err := io.WriteString(deaf, "GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	time.Sleep(35 * time.Second) // longer than the time-outs, which is what this is about
	quiet.echo("still here")
	if took := ended(t, deaf); took > time.Second || time.Since(begun) > 60*time.Second {
		t.Errorf("who does not read was closed after %v", time.Since(begun))
	}
}
