package sockets_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
	"kafkachat/internal/leaktest"
)

// patience bounds what a test, and the server, waits for. The machine may stop for seconds.
const patience = 30 * time.Second
const limit = 1 << 20 // bytes of the longest message

// The messages of track 1 have "n:" before them, for clients that get notices.
const noticeTrack, tracks = 1, 2

// A server is a log, a loop that serves it, and an HTTP server whose websockets echo.
type server struct {
	t      testing.TB
	loop   *sockets.Loop
	http   *httptest.Server
	stop   func() // the loop, and waits for it and its readers
	cancel context.CancelFunc
	log    *framelog.Log

	opts  sockets.Options                   // Track, Limit and Notices follow from the others
	place sockets.Place                     // nil: fromNewest(?last=N)
	read  func(*sockets.Conn, []byte) error // what a reader does with a message
	ended chan error                        // why readers ended
}

// newServer returns a server that does not listen yet. The test fails if it leaves goroutines.
func newServer(t testing.TB, logBytes int, tick ...time.Duration) *server {
	leaktest.Check(t, patience)
	s := &server{t: t, log: framelog.New(logBytes, tracks, 0), ended: make(chan error, 100), read: (*sockets.Conn).Send}
	s.opts = sockets.Options{Limit: limit, MessageTime: patience}
	s.loop = sockets.NewLoop(s.log)
	s.loop.SetTick(append(tick, time.Hour)[0]) // ticks come from the test, so that nobody is pinged, nor a lost wake-up made good
	s.loop.SetCloseWait(2 * patience)          // a test sees that the server does not notice a peer's end
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.loop.Run(ctx) })
	upgrader := websocket.Upgrader{HandshakeTimeout: patience, ReadBufferSize: 256, WriteBufferPool: &sync.Pool{}}
	upgrader.Subprotocols = []string{"notices"}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.loop.Upgrade(w, r, &upgrader, func(protocol string) sockets.Options {
			o := s.opts
			if o.Place = s.place; s.place == nil {
				o.Place = fromNewest(r.URL.Query().Get("last"))
			}
			if protocol == "notices" {
				o.Track, o.Notices = noticeTrack, true
			}
			return o
		})
		if err == nil {
			go s.serve(c)
		}
	}))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.stop = sync.OnceFunc(func() {
		s.cancel()
		running.Wait()
		s.http.Close()
	})
	t.Cleanup(s.stop)
	return s
}

// newTCP returns a server that listens on a loopback socket.
func newTCP(t testing.TB, logBytes int, tick ...time.Duration) *server {
	s := newServer(t, logBytes, tick...)
	s.http.Start()
	return s
}

// fromNewest is the place of clients that get the newest n messages, and then a mark.
func fromNewest(n string) sockets.Place {
	last, _ := strconv.Atoi(n)
	return func(log *framelog.Log) (sockets.Placement, bool) {
		_, end := log.Bounds()
		return sockets.Placement{Hello: text("hello"), From: log.Newest(last), Mark: end, MarkFrames: text("live")}, true
	}
}

func (s *server) serve(c *sockets.Conn) {
	defer c.Finish()
	for {
		m, err := c.Read()
		if err == nil {
			err = s.read(c, m)
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

// append adds a message to the log, and says so.
func (s *server) append(payload string) { s.appendFrames(text(payload), text("n:"+payload)) }

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

// makeSlow appends a message that is too long for the sockets of clients that do not read.
func (s *server) makeSlow() {
	s.t.Helper()
	before := s.loop.Stats().BecameSlow
	s.append(strings.Repeat("x", 4<<20))
	until(s.t, "a socket is full", func() bool { return s.loop.Stats().BecameSlow > before })
}

func (s *server) wantConns(n int64) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("there are %d connections", n), func() bool { return s.loop.Stats().Conns == n })
}

func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}
