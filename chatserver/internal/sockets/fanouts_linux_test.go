package sockets_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

// A fanout is one way to bring messages to clients.
type fanout interface {
	join(w http.ResponseWriter, r *http.Request) // a client comes
	joined() int                                 // how many have come
	send(n int64) (length int)                   // message n to all; one goroutine calls it. Bytes of the frame
}

const chatProtocol = chat.Protocol

// benchServer is the process of a server.
type benchServer struct {
	fanout fanout
	http   *httptest.Server
	sent   int64
}

func newBenchServer(name string) *benchServer {
	fanouts := map[string]func() fanout{
		"bare":            func() fanout { return &bare{} },
		"bareGathered":    newBareGathered,
		"thisRaw":         newThis,
		"thisChatV1":      newThis,
		"labMutexMap":     func() fanout { return &lab{clients: make(map[*websocket.Conn]bool)} },
		"preparedChannel": func() fanout { return &prepared{} },
	}
	s := &benchServer{fanout: fanouts[name]()}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.fanout.join))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.Start()
	return s
}

func (s *benchServer) answer(words []string) (m measure, err error) {
	switch words[0] {
	case "addr":
		m.Addr = s.http.Listener.Addr().String()
	case "joined":
		for deadline := time.Now().Add(patience); s.fanout.joined() < number(words[1]); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return m, fmt.Errorf("%d of %s clients have come", s.fanout.joined(), words[1])
			}
		}
	case "send":
		m.Sent, m.Length = s.send(time.Duration(number(words[1]))*time.Millisecond, number(words[2]))
	case "measure":
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return m, err
		}
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		m.CPU = usage.Utime.Nano() + usage.Stime.Nano()
		m.Mallocs = int64(memory.Mallocs)
	case "rss":
		time.Sleep(200 * time.Millisecond) // what serves the handshakes ends
		debug.FreeOSMemory()
		statm, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			return m, err
		}
		var pages, resident int64
		fmt.Sscan(string(statm), &pages, &resident)
		m.RSS = resident * int64(os.Getpagesize())
	}
	return m, nil
}

// send sends at rate for d, or as many messages as it can in that time.
func (s *benchServer) send(d time.Duration, rate int) (n, length int64) {
	begun := time.Now()
	for {
		due := time.Duration(n) * time.Second / time.Duration(rate)
		if due >= d || time.Since(begun) >= d {
			return n, length
		}
		time.Sleep(due - time.Since(begun))
		length += int64(s.fanout.send(s.sent))
		s.sent++
		n++
	}
}

// payload returns 128 bytes of text.
func payload(n int64) string { return fmt.Sprintf("%0127d\n", n) }

// bare: for each message, a write(2) to each client, by one goroutine. What a socket does not
// take is kept for it, so that nothing is lost.
type bare struct {
	mu      sync.Mutex
	clients []*bareClient
}

type bareClient struct {
	conn net.Conn // keeps fd open
	fd   int
	rest []byte
}

func (f *bare) join(w http.ResponseWriter, r *http.Request) {
	conn := upgrade(w, r, &websocket.Upgrader{}).NetConn()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		panic(err)
	}
	c := &bareClient{conn: conn}
	raw.Control(func(fd uintptr) { c.fd = int(fd) })
	f.mu.Lock()
	f.clients = append(f.clients, c)
	f.mu.Unlock()
}

func upgrade(w http.ResponseWriter, r *http.Request, u *websocket.Upgrader) *websocket.Conn {
	ws, err := u.Upgrade(w, r, nil)
	if err != nil {
		panic(err)
	}
	return ws
}

func (f *bare) joined() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.clients)
}

func (f *bare) send(n int64) int {
	frame := text(payload(n))
	f.write(frame)
	return len(frame)
}

// write writes b to all clients, and returns when their sockets have taken it.
func (f *bare) write(b []byte) {
	full := false
	for _, c := range f.clients {
		full = c.write(b) || full
	}
	for full {
		time.Sleep(time.Millisecond)
		full = false
		for _, c := range f.clients {
			full = len(c.rest) > 0 && c.write(nil) || full
		}
	}
}

// write writes what is left of before, and b. It says whether the socket is full.
func (c *bareClient) write(b []byte) (full bool) {
	if len(c.rest) > 0 {
		c.rest = append(c.rest, b...)
		b = c.rest
	}
	n, err := syscall.Write(c.fd, b)
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		panic(err)
	}
	c.rest = append(c.rest[:0], b[max(n, 0):]...)
	return len(c.rest) > 0
}

// bareGathered is bare with the messages that come during a pass over the clients gathered for
// the next: a write(2) for each client and pass. It is the bound that the others are compared to.
type bareGathered struct {
	bare
	wake     chan struct{}
	gathered []byte // guarded by bare.mu
}

func newBareGathered() fanout {
	f := &bareGathered{wake: make(chan struct{}, 1)}
	go func() {
		var b []byte
		for range f.wake {
			f.mu.Lock()
			b, f.gathered = f.gathered, b[:0]
			f.mu.Unlock()
			f.write(b)
		}
	}()
	return f
}

func (f *bareGathered) send(n int64) int {
	frame := text(payload(n))
	f.mu.Lock()
	f.gathered = append(f.gathered, frame...)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return len(frame)
}

// this is the loop of this package, on a log with both encodings of each message.
type this struct {
	log      *framelog.Log
	loop     *sockets.Loop
	upgrader websocket.Upgrader
	chat     atomic.Bool // the clients speak chat.v1

	payload, raw, event []byte
}

func newThis() fanout {
	f := &this{log: framelog.New(16<<20, 2, 0)}
	f.loop = sockets.NewLoop(f.log)
	f.upgrader = websocket.Upgrader{Subprotocols: []string{chatProtocol}, ReadBufferSize: 512, WriteBufferPool: &sync.Pool{}}
	go f.loop.Run(context.Background())
	return f
}

func (f *this) join(w http.ResponseWriter, r *http.Request) {
	c, err := f.loop.Upgrade(w, r, &f.upgrader, func(protocol string) sockets.Options {
		if protocol == chatProtocol {
			f.chat.Store(true)
			return sockets.Options{Track: 1, Notices: true, Limit: 1 << 16}
		}
		return sockets.Options{Limit: 1 << 16}
	})
	if err != nil {
		panic(err)
	}
	c.Start(func(log *framelog.Log) (sockets.Placement, bool) { return sockets.Placement{From: log.Newest(0)}, true })
	go func() {
		defer c.Finish()
		for {
			if _, err := c.Read(); err != nil {
				return
			}
		}
	}()
}

func (f *this) joined() int { return int(f.loop.Stats().Conns) }

func (f *this) send(n int64) int {
	m := chat.Message{Offset: n, Time: time.UnixMilli(1e12 + n), ID: "f5fb7bd5-5e0f-4d5e-8a0b-6c4f0f9c3d11", Name: "Ada", Pod: "pod-1", Text: payload(n)}
	p := framelog.Position{Offset: n, Sum: uint32(n)}
	f.payload = append(f.payload[:0], m.Text...)
	f.raw = sockets.AppendText(f.raw[:0], f.payload)
	f.event = sockets.AppendText(f.event[:0], chat.MessageEvent(m, p.String()))
	f.log.Append(p, f.raw, f.event)
	f.loop.Wake()
	if f.chat.Load() {
		return len(f.event)
	}
	return len(f.raw)
}
