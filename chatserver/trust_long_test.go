//go:build long

package main

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Who opens a connection and dawdles loses it, whatever he is in the middle of, also if each byte is progress, or if he asks
// for pages and does not read them. A websocket that is only quiet keeps it.
func TestDawdlersAreClosed(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil)
	quiet := a.raw("")
	var all sync.WaitGroup
	for name, c := range map[string]struct {
		say, again string
		pause      time.Duration
	}{
		"says nothing":             {},
		"stops in the first line":  {say: "GET / HT"},
		"stops in a handshake":     {say: "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-"},
		"stops in a body":          {say: "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"},
		"stops in a body of parts": {say: "POST /ws HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"},
		"dribbles headers":         {say: "GET / HTTP/1.1\r\nHost: localhost\r\n", again: "X-Y: z\r\n", pause: time.Second},
		"reads no answers":         {again: "GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	} {
		conn := a.connect()
		conn.SetDeadline(time.Now().Add(2 * patience))
		all.Go(func() {
			_, err := io.WriteString(conn, c.say)
			for err == nil && c.again != "" {
				time.Sleep(c.pause)
				_, err = io.WriteString(conn, c.again)
			}
			if c.again == "" {
				_, err = io.Copy(io.Discard, conn)
			}
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Errorf("a client that %s is still there after %v", name, 2*patience)
			}
		})
	}
	time.Sleep(35 * time.Second) // longer than the time-outs, which is what this is about
	quiet.echo("still here")
	all.Wait()
}
