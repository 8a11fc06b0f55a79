package sockets_test

import (
	"context"
	"fmt"
	"io"
	"log"
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

const (
	// patience is how long a test waits for what must happen; much longer than it takes.
	patience = 20 * time.Second
	// slack is how much later than planned things may happen on a busy machine.
	slack = 3 * time.Second
	// limit of the server's messages, in bytes.
	limit = 1 << 20
)

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
	log    *framelog.Log

	opts  sockets.Options                   // Track, Limit and Notices follow from the others
	place sockets.Place                     // nil: from the newest ?last=N on, with a mark
	read  func(*sockets.Conn, []byte) error // nil: echo
	ended chan error                        // why readers ended
}

func newServer(t testing.TB, logBytes int, with ...func(*sockets.Loop)) *server {
	s := &server{t: t, log: framelog.New(logBytes, tracks, 0), ended: make(chan error, 100)}
	s.loop = sockets.NewLoop(s.log)
	for _, set := range with {
		set(s.loop)
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.loop.Run(ctx) })
	var readers atomic.Int64 // a WaitGroup could not be waited for while connections come
	upgrader := websocket.Upgrader{Subprotocols: []string{"notices"}, ReadBufferSize: 256, WriteBufferPool: &sync.Pool{}}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.loop.Upgrade(w, r, &upgrader, func(protocol string) sockets.Options {
			o := s.opts
			o.Limit, o.Place = limit, s.placeOf(r)
			if protocol == "notices" {
				o.Track, o.Notices = noticeTrack, true
			}
			return o
		})
		if err != nil {
			return
		}
		readers.Add(1)
		go func() {
			defer readers.Add(-1)
			s.serve(c)
		}()
	}))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.stop = sync.OnceFunc(func() {
		s.cancel()
		running.Wait()
		until(t, "all readers have ended", func() bool { return readers.Load() == 0 })
		s.http.Close()
	})
	t.Cleanup(s.stop)
	return s
}

// newTCP returns a server that listens on a loopback socket.
func newTCP(t testing.TB, logBytes int, with ...func(*sockets.Loop)) *server {
	s := newServer(t, logBytes, with...)
	s.http.Start()
	return s
}

// forWriters runs a test with each of the ways to write to a socket.
func forWriters(t *testing.T, test func(*testing.T, func(*sockets.Loop))) {
	t.Parallel()
	for name, writer := range map[string]func(*sockets.Loop){
		"without waiting": func(*sockets.Loop) {},
		"with deadlines":  (*sockets.Loop).WriteWithDeadlines,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, writer)
		})
	}
}

// tick shortens the loop's second, for tests of silence.
func tick(d time.Duration) func(*sockets.Loop) { return func(l *sockets.Loop) { l.SetTick(d) } }

func (s *server) placeOf(r *http.Request) sockets.Place {
	if s.place != nil {
		return s.place
	}
	last := 0
	fmt.Sscan(r.URL.Query().Get("last"), &last)
	return func(log *framelog.Log) (sockets.Placement, bool) {
		_, end := log.Bounds()
		return sockets.Placement{Hello: text("hello"), From: log.Newest(last), Mark: end, MarkFrames: text("live")}, true
	}
}

func (s *server) serve(c *sockets.Conn) {
	defer c.Finish()
	for {
		m, err := c.Read()
		switch {
		case err != nil:
		case s.read != nil:
			err = s.read(c, m)
		default:
			err = c.Send(m)
		}
		if err != nil {
			select {
			case s.ended <- err:
			default: // a test with so many connections does not ask
			}
			return
		}
	}
}

func text(payload string) []byte { return sockets.AppendText(nil, []byte(payload)) }

// append adds messages to the log, and says so after each.
func (s *server) append(payloads ...string) {
	for _, m := range payloads {
		s.appendFrames(text(m), text("n:"+m))
	}
}

func (s *server) appendFrames(frames ...[]byte) {
	_, end := s.log.Bounds()
	s.log.Append(framelog.Position{Offset: end}, frames...)
	s.loop.Wake()
}

// fill appends messages with so many bytes together.
func (s *server) fill(bytes int) {
	for range bytes >> 10 {
		s.append(strings.Repeat("x", 1<<10))
	}
}

// makeSlow appends long messages until the socket of a client that does not read is full.
func (s *server) makeSlow() {
	s.t.Helper()
	filling, before := strings.Repeat("x", 100<<10), s.stats().BecameSlow
	for n := 0; s.stats().BecameSlow == before; n++ {
		s.append(fmt.Sprint(n, filling))
		if n > 1000 {
			s.t.Fatal("the socket does not become full")
		}
	}
}

func (s *server) stats() sockets.Stats { return s.loop.Stats() }

func (s *server) wantGone(within time.Duration) {
	s.t.Helper()
	begun := time.Now()
	until(s.t, "the connections are gone", func() bool { return s.stats().Conns == 0 })
	if took := time.Since(begun); took > within+slack {
		s.t.Errorf("gone after %v, want %v", took, within)
	}
}

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
