//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/podtest"
	"kafkachat/chatserver/internal/room"
)

// TestAbuse is rude to one server in every way, while a client in the same chat goes on. At last nothing is left of all that: no
// goroutine, no descriptor, no memory. What Go's runtime keeps of the largest crowd, such as the descriptors of goroutines, is
// not the server's to give back: so the largest crowd comes twice.
func TestAbuse(t *testing.T) {
	// Not parallel: its own load on the machine would disturb tests that measure, and they it.
	v := &victim{startProcess(t, podtest.Build(t), "LOG_BYTES=4194304")}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	size := func(full, short int) int {
		if fullAbuse {
			return full
		}
		return short
	}
	most := int(min(files.Cur/2, 10000)) // of this process and the server
	crowd := min(most, size(10000, 2000))
	v.storm(t, crowd)
	v.settle()
	before := v.usage(t)
	t.Logf("before: %+v", before)
	for name, abuse := range map[string]func(*testing.T){
		"connections opened and dropped at once": func(t *testing.T) { v.storm(t, crowd) },
		"random handshakes":                      func(t *testing.T) { v.randomHandshakes(t, size(100000, 10000)) },
		"messages that do not end":               func(t *testing.T) { v.unfinished(t, min(most, size(4700, 1000))) },
		"floods":                                 func(t *testing.T) { v.floods(t, time.Duration(size(5, 2))*time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			// The promise is a second, on a machine that does not also carry this load and other tests.
			t.Logf("a message took %v at most", v.watch(t, func() { abuse(t) }))
		})
	}
	v.settle()
	var after usage
	defer func() { t.Logf("after: %+v", after) }()
	waitFor(t, "the server to be as it was", func() bool {
		after = v.usage(t)
		// Memory moves a little by itself, connections to Kafka come and go, and a pod remembers the ids of messages.
		const noise, id = 512 << 10, 128
		ids := id * min(after.records-before.records, chat.WindowSize)
		return after.goroutines <= before.goroutines+20 && after.descriptors <= before.descriptors+10 && after.memory <= before.memory*1.1+noise+ids
	})
}

// A victim is a process of the real server.
type victim struct{ *testPod }

const (
	handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" // but for the empty line at its end
	rawHandshake  = handshake + "\r\n"
	chatHandshake = handshake + "Sec-WebSocket-Protocol: " + chat.Protocol + "\r\n\r\n"
	pageRequest   = "GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
)

// usage is what a server has taken from its machine, after a garbage collection; more than one, since what is in a pool
// survives one.
type usage struct{ goroutines, descriptors, memory, records float64 }

func (v *victim) usage(t *testing.T) usage {
	t.Helper()
	for range 3 {
		fetch(t, "GET", v.admin+"/debug/pprof/heap?gc=1")
	}
	return usage{v.metric("go_goroutines"), v.metric("process_open_fds"), v.metric("go_memstats_heap_alloc_bytes") + v.metric("go_memstats_stack_inuse_bytes"),
		v.metric("chat_records_total")}
}

// settle waits until everybody has gone, and fills the server's log, so that it is as large as it gets.
func (v *victim) settle() {
	c := v.raw("")
	text := strings.Repeat("x", 8000)
	for range 300 {
		c.send(text)
		for c.read() != text { // others may have left something
		}
	}
	c.ws.Close()
	v.waitMetric("chat_connections", 0)
}

// watch has a client talk to itself while do runs, and returns the longest that a message took.
func (v *victim) watch(t *testing.T, do func()) time.Duration {
	t.Helper()
	c := v.raw("")
	defer c.ws.Close()
	ctx, stop := context.WithCancel(t.Context())
	worsts := make(chan time.Duration)
	go func() {
		var worst time.Duration
		defer func() { worsts <- worst }()
		for i := 0; ctx.Err() == nil; i++ {
			text, begun := fmt.Append(nil, "control ", i), time.Now()
			c.ws.SetReadDeadline(begun.Add(patience))
			err := c.ws.WriteMessage(websocket.TextMessage, text)
			for heard := []byte(nil); err == nil && !bytes.Equal(heard, text); { // others talk, too
				_, heard, err = c.ws.ReadMessage()
			}
			if err != nil {
				t.Errorf("the client that watches, after %d messages: %v", i, err)
				return
			}
			worst = max(worst, time.Since(begun))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	do()
	stop()
	return <-worsts
}

// join opens n websockets, some at a time, and sends first on each; whoever is not let in is a fault.
func (v *victim) join(t *testing.T, n int, first string) []net.Conn {
	conns := make([]net.Conn, n)
	inParallel(n, func(i int) {
		head := chatHandshake
		if first == "" && i%2 == 0 {
			head = rawHandshake
		}
		conns[i] = v.ask(t, head)
		io.WriteString(conns[i], first) // some are closed before that has gone
	})
	return conns
}

// ask opens a connection, and sends a request, whose answer has to begin well.
func (v *victim) ask(t *testing.T, request string) net.Conn {
	c := v.open(t)
	io.WriteString(c, request)
	answer := make([]byte, 12)
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 101" && request != pageRequest {
		t.Errorf("a client is answered with %q, %v", answer, err)
	}
	return c
}

// unfinished has n clients send a message of 50,000 bytes but for the last hundred.
func (v *victim) unfinished(t *testing.T, n int) {
	conns := v.join(t, n, "\x81\xfe\xc3\x50\x00\x00\x00\x00"+strings.Repeat("x", 49_900))
	most := float64(room.UnreadBytes + n*16<<10 + 64<<20) // 16 KiB a client, and what the collector has not freed yet
	if heap := v.metric("go_memstats_heap_alloc_bytes"); heap > most {
		t.Errorf("%.0f MiB of heap", heap/(1<<20))
	}
	waitFor(t, "a message that is given up", func() bool { // on a slow machine the first ones run out of time before the memory is used up
		return v.metric(`chat_rejects_total{reason="no_room"}`)+v.metric(`chat_rejects_total{reason="unfinished"}`) > 0
	})
	for _, c := range conns {
		drop(c)
	}
}

// floods has clients send as fast as they can what costs the server something, and read little or nothing.
func (v *victim) floods(t *testing.T, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var all sync.WaitGroup
	for _, f := range []struct{ head, first, flood string }{
		{rawHandshake, "", "\x89\x84\x00\x00\x00\x00ping"},
		{rawHandshake, "", "\x81\x80\x00\x00\x00\x00"},
		{rawHandshake, "\x01\x80\x00\x00\x00\x00", "\x00\x88\x00\x00\x00\x00fragment"},
		{rawHandshake, "", "\x81\x85\x00\x00\x00\x00flood"},
		{chatHandshake, "", "\x81\x82\x00\x00\x00\x00{}"},
		{chatHandshake, "", "\x81\xbc\x00\x00\x00\x00" + `{"type":"message","id":"the-same-0123456789","text":"flood"}`},
		{pageRequest, "", pageRequest},
	} {
		flood := []byte(strings.Repeat(f.flood, 1+4096/len(f.flood)))
		for i := range 4 {
			all.Go(func() {
				for ctx.Err() == nil { // whoever is thrown out comes again
					c := v.ask(t, f.head)
					stop := context.AfterFunc(ctx, func() { c.Close() })
					time.Sleep(10 * time.Millisecond) // frames before the whole answer would end the handshake
					if i%2 == 0 {
						go io.Copy(io.Discard, c)
					}
					for _, err := io.WriteString(c, f.first); err == nil; {
						_, err = c.Write(flood)
					}
					stop()
					drop(c)
				}
			})
		}
	}
	all.Wait()
}

// storm opens n websockets and drops them all at once.
func (v *victim) storm(t *testing.T, n int) {
	conns := v.join(t, n, "")
	waitFor(t, "the crowd to be in", func() bool { return v.metric("chat_connections") >= float64(n) })
	if files := v.metric("process_open_fds"); files > float64(n+200) { // a pod has a handful of connections to Kafka
		t.Errorf("%v descriptors for %d clients", files, n)
	}
	for _, c := range conns {
		drop(c)
	}
	// But for the client that watches.
	waitFor(t, "the crowd to be gone", func() bool { return v.metric("chat_connections") <= 1 })
}

// randomHandshakes sends handshakes with random faults, and things that are none. Each is answered or closed.
func (v *victim) randomHandshakes(t *testing.T, n int) {
	seed, stop := uint64(time.Now().UnixNano()), time.Now().Add(90*time.Second) // however slow the machine is
	t.Logf("seed %d", seed)
	inParallel(n, func(i int) {
		if time.Now().After(stop) {
			return
		}
		c := v.open(t)
		defer drop(c)
		c.Write(mutate(rand.New(rand.NewPCG(seed, uint64(i)))))
		c.(*net.TCPConn).CloseWrite()
		_, err := io.Copy(io.Discard, c)
		if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("handshake %d is neither answered nor closed", i)
		}
	})
}

// mutate returns a handshake, with a frame after it, that random has changed.
func mutate(random *rand.Rand) []byte {
	text := strings.Replace(handshake, "/ws", fmt.Sprintf("/ws?last=%d&after=%d.%08x", random.Int64(), random.Int64(), random.Uint32()), random.IntN(2))
	lines := strings.SplitAfter(text, "\r\n")
	at := random.IntN(len(lines))
	lines[at] = strings.Repeat(lines[at], random.IntN(10))
	b := []byte(strings.Join(lines, "") + "\r\n\x81\x85\x01\x02\x03\x04iokho")
	for range random.IntN(50) * random.IntN(2) { // noise, in which there may be frames
		b = append(b, byte(random.Uint32()))
	}
	for range random.IntN(6) {
		at := random.IntN(len(b))
		b[at] ^= 1 << random.IntN(8)
		b = slices.Delete(b, at, min(len(b)-1, at+random.IntN(4)))
	}
	return b
}

// open opens a connection on which nothing takes longer than patience.
func (v *victim) open(t *testing.T) net.Conn {
	c, err := net.DialTimeout("tcp", v.host(), patience)
	if err != nil {
		t.Error(err)
		c, _ = net.Pipe()
	}
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// drop closes a connection with a reset, which leaves nothing of it in this machine.
func drop(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// inParallel runs do for 0 to n-1, some at a time.
func inParallel(n int, do func(i int)) {
	some := make(chan struct{}, 32)
	var all sync.WaitGroup
	for i := range n {
		some <- struct{}{}
		all.Go(func() {
			do(i)
			<-some
		})
	}
	all.Wait()
}
