package sockets_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

// patience is how long a test waits for what must happen; much longer than it takes.
const patience = 20 * time.Second

// The tracks of the test's logs.
const (
	rawTrack    = iota // messages as they are
	noticeTrack        // with "n:" before them, for clients that get notices
	tracks
)

// A server is a log, a loop that serves it, and an HTTP server whose websockets are echoed to
// themselves: what a client sends, Conn.Send sends back.
type server struct {
	t      testing.TB
	loop   *sockets.Loop
	http   *httptest.Server
	stop   func() // the loop, and waits for it and the readers
	cancel context.CancelFunc

	mu    sync.Mutex // guards the following
	log   *framelog.Log
	limit int
	opts  sockets.Options                     // Track, Limit and Notices follow from the others
	place func(r *http.Request) sockets.Place // nil: from the newest ?last=N on, with a mark
	read  func(*sockets.Conn, []byte) error   // nil: echo
	ended func(error)                         // not nil: is told why a reader ended, before Finish
}

func newServer(t testing.TB, logBytes int, with ...func(*sockets.Loop)) *server {
	s := &server{t: t, limit: 1 << 20}
	s.log = framelog.New(logBytes, tracks, 0)
	s.loop = sockets.NewLoop(s.log)
	for _, set := range with {
		set(s.loop)
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.loop.Run(ctx) })
	var readers atomic.Int64 // a WaitGroup could not be waited for while connections come
	upgrader := websocket.Upgrader{Subprotocols: []string{"notices"}, ReadBufferSize: 512, WriteBufferPool: &sync.Pool{}}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.loop.Upgrade(w, r, &upgrader, func(protocol string) sockets.Options {
			o := s.opts
			o.Track, o.Limit = rawTrack, int64(s.limit)
			if protocol == "notices" {
				o.Track, o.Notices = noticeTrack, true
			}
			return o
		})
		if err != nil {
			return
		}
		c.Start(s.placeOf(r))
		readers.Add(1)
		go func() {
			defer readers.Add(-1)
			s.serve(c)
		}()
	}))
	// Small buffers become full soon.
	s.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetWriteBuffer(64 << 10)
		}
		return ctx
	}
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.stop = sync.OnceFunc(func() {
		s.cancel()
		running.Wait()
		until(t, "all readers have ended", func() bool { return readers.Load() == 0 })
	})
	t.Cleanup(func() {
		s.http.Close()
		s.stop()
	})
	return s
}

// writers are the ways to write to a socket.
var writers = map[string]func(*sockets.Loop){
	"without waiting": func(*sockets.Loop) {},
	"with deadlines":  (*sockets.Loop).WriteWithDeadlines,
}

// tick shortens the loop's second, for tests of silence.
func tick(d time.Duration) func(*sockets.Loop) { return func(l *sockets.Loop) { l.SetTick(d) } }

// newTCP returns a server that listens on a loopback socket.
func newTCP(t testing.TB, logBytes int, with ...func(*sockets.Loop)) *server {
	s := newServer(t, logBytes, with...)
	s.http.Start()
	return s
}

func (s *server) placeOf(r *http.Request) sockets.Place {
	if s.place != nil {
		return s.place(r)
	}
	last := 0
	fmt.Sscan(r.URL.Query().Get("last"), &last)
	return func(log *framelog.Log) (sockets.Placement, bool) {
		from := log.Newest(last)
		_, end := log.Bounds()
		return sockets.Placement{Hello: text("hello"), From: from, Mark: end, MarkFrames: text("live")}, true
	}
}

func (s *server) serve(c *sockets.Conn) {
	defer c.Finish()
	for {
		m, err := c.Read()
		if err != nil {
			if s.ended != nil {
				s.ended(err)
			}
			return
		}
		if s.read != nil {
			err = s.read(c, m)
		} else {
			err = c.Send(m)
		}
		if err != nil {
			return
		}
	}
}

func text(payload string) []byte { return sockets.AppendText(nil, []byte(payload)) }

// append adds a message to the log, and says so.
func (s *server) append(payload string) {
	s.appendQuietly(payload)
	s.loop.Wake()
}

func (s *server) appendQuietly(payload string) { s.appendFrames(text(payload), text("n:"+payload)) }

func (s *server) appendFrames(frames ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, end := s.log.Bounds()
	s.log.Append(framelog.Position{Offset: end}, frames...)
}

// fill appends messages with so many bytes together.
func (s *server) fill(bytes int) {
	for range bytes >> 10 {
		s.append(strings.Repeat("x", 1<<10))
	}
}

// makeSlow appends long messages until the socket of a client that does not read is full, and
// returns how many. Message i begins with i; said is told each.
func (s *server) makeSlow(said func(message string)) (n int) {
	s.t.Helper()
	filling := strings.Repeat("x", 100<<10)
	for ; s.stats().Slow == 0; n++ {
		m := fmt.Sprint(n, filling)
		s.append(m)
		if said != nil {
			said(m)
		}
		if n > 1000 {
			s.t.Fatal("the socket does not become full")
		}
	}
	return n
}

func (s *server) stats() sockets.Stats { return s.loop.Stats() }

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// noLeaks fails the test if it leaves goroutines behind; it is called first.
func noLeaks(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}
