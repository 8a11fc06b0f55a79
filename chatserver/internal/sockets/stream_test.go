package sockets_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

func TestReplayMarkLive(t *testing.T) {
	noLeaks(t)
	s := newTCP(t, 1<<20)
	for i := range 10 {
		s.append(strconv.Itoa(i))
	}
	c := s.dial("/?last=3", 0)
	c.want("hello", "7", "8", "9", "live")
	s.append("10")
	s.append("11")
	c.want("10", "11")
	c.say("echo")
	c.want("echo")
	n := s.dial("/?last=1", 0, notices)
	if got := n.head.Get("Sec-WebSocket-Protocol"); got != "notices" {
		t.Errorf("subprotocol %q", got)
	}
	n.want("hello", "n:11", "live")
	fresh := s.dial("/", 0)
	fresh.want("hello", "live")
	s.append("12")
	c.want("12")
	n.want("n:12")
	fresh.want("12")
}

func TestGorillaUnderstands(t *testing.T) {
	s := newTCP(t, 1<<20)
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+s.http.Listener.Addr().String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ws.SetReadDeadline(time.Now().Add(patience))
	want := func(messages ...string) {
		t.Helper()
		for _, want := range messages {
			if kind, m, err := ws.ReadMessage(); err != nil || kind != websocket.TextMessage || string(m) != want {
				t.Fatalf("got %d %q, %v, want %q", kind, m, err, want)
			}
		}
	}
	want("hello", "live")
	s.append("grüße")
	want("grüße")
	if err := ws.WriteMessage(websocket.TextMessage, []byte("echo")); err != nil {
		t.Fatal(err)
	}
	want("echo")
	ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4321, "bye"))
	_, _, err = ws.ReadMessage()
	if !websocket.IsCloseError(err, 4321) {
		t.Error(err)
	}
}

// The mark is sent without waiting for the next message, however many pieces the replay has.
func TestMarkDoesNotWait(t *testing.T) {
	s := newTCP(t, 1<<20)
	s.loop.SetNotice(0, []byte("status"))
	for i := range 500 { // chunks of the log have 16 KiB
		s.append(fmt.Sprintf("%d %s", i, strings.Repeat("x", 300)))
		if i%2 == 0 {
			c := s.dial("/?last="+strconv.Itoa(i), 0, notices)
			c.want("hello")
			for c.next() != "live" {
			}
			c.conn.Close()
		}
	}
}

// What a Placement says may be older than the log when it is used.
func TestMarkBeforeFrom(t *testing.T) {
	s := newTCP(t, 1<<20)
	s.place = func(*http.Request) sockets.Place {
		return func(log *framelog.Log) (sockets.Placement, bool) {
			return sockets.Placement{From: 6, Mark: 5, MarkFrames: text("live")}, true
		}
	}
	for i := range 8 {
		s.append(strconv.Itoa(i))
	}
	s.dial("/", 0).want("live", "6", "7")
}

func TestMarkInAHole(t *testing.T) {
	s := newTCP(t, 1<<20)
	s.place = func(*http.Request) sockets.Place {
		return func(log *framelog.Log) (sockets.Placement, bool) {
			return sockets.Placement{From: 3, Mark: 7, MarkFrames: text("live")}, true
		}
	}
	for _, offset := range []int64{0, 2, 10} {
		s.log.Append(framelog.Position{Offset: offset}, text(fmt.Sprint(offset)), nil)
	}
	s.dial("/", 0).want("live", "10")
}

// A connection is asked for its place until it has one; what the place says meanwhile is sent.
func TestPlaceLater(t *testing.T) {
	s := newTCP(t, 1<<20)
	var greet, placed bool
	s.place = func(*http.Request) sockets.Place {
		return func(log *framelog.Log) (p sockets.Placement, ok bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if greet {
				p.Hello, greet = text("wait"), false
			}
			_, end := log.Bounds()
			p.From, p.Mark, p.MarkFrames = end, end, text("live")
			return p, placed
		}
	}
	set := func(what *bool) {
		s.mu.Lock()
		*what = true
		s.mu.Unlock()
		s.loop.Wake()
	}
	sent := make(chan error, 9)
	s.read = func(c *sockets.Conn, m []byte) error { sent <- c.Send(m); return nil }
	c := s.dial("/", 0, notices)
	c.say("too early") // nothing may go before the greeting
	<-sent
	s.loop.SetNotice(0, []byte("status"))
	time.Sleep(10 * time.Millisecond) // for what must not happen
	set(&greet)
	c.want("wait", "status", "too early")
	c.say("echo")
	c.want("echo")
	s.append("not for it")
	set(&placed)
	c.want("live")
	s.append("for it")
	c.want("n:for it")
}

// A connection whose greeting fills the socket is asked for its place again all the same, and is
// not a slow one.
func TestPlaceAfterFullSocket(t *testing.T) {
	s := newTCP(t, 1<<20)
	placed := make(chan struct{})
	long := strings.Repeat("x", 8<<20)
	greeted := make(chan struct{})
	s.place = func(*http.Request) sockets.Place {
		return func(log *framelog.Log) (p sockets.Placement, ok bool) {
			select {
			case <-placed:
				return sockets.Placement{MarkFrames: text("live")}, true
			case <-greeted:
			default:
				close(greeted)
				p.Hello = text(long)
			}
			return p, false
		}
	}
	c := s.dial("/", 128<<10)
	<-greeted
	s.append("a pass that finds the socket full")
	c.want(long)
	close(placed)
	s.loop.Wake()
	c.want("live", "a pass that finds the socket full")
	if n := s.stats().BecameSlow; n != 0 {
		t.Errorf("%d slow clients", n)
	}
}

// A client that reads everything at once is not a slow one, however much history it gets.
func TestNewcomerIsNotSlow(t *testing.T) {
	s := newTCP(t, 8<<20)
	s.loop.SetNotice(0, []byte("status"))
	for i := range 200 {
		s.append(fmt.Sprint(i, strings.Repeat("x", 16<<10)))
	}
	c := s.dial("/?last=200", 16<<10, notices)
	for c.next() != "live" {
	}
	if n := s.stats().BecameSlow; n != 0 {
		t.Errorf("a newcomer was slow %d times", n)
	}
}

func TestNoticesAreTheNewest(t *testing.T) {
	s := newTCP(t, 1<<20)
	raw, early := s.dial("/", 0), s.dial("/", 0, notices)
	raw.want("hello", "live")
	early.want("hello", "live")
	s.loop.SetNotice(1, []byte("b1"))
	early.want("b1")
	s.loop.SetNotice(0, []byte("a1"))
	early.want("a1")
	s.loop.SetNotice(1, []byte("b2"))
	early.want("b2")
	late := s.dial("/", 0, notices)
	late.want("hello", "a1", "b2", "live")
	s.append("x")
	raw.want("x")
	late.want("n:x")
}

func TestReset(t *testing.T) {
	s := newTCP(t, 1<<20)
	for i := range 5 {
		s.append("old " + strconv.Itoa(i))
	}
	raw, notified := s.dial("/", 0), s.dial("/", 0, notices)
	raw.want("hello", "live")
	notified.want("hello", "live")
	other := framelog.New(1<<20, tracks, 100)
	other.Append(framelog.Position{Offset: 100}, text("new 0"), text("n:new 0"))
	s.mu.Lock()
	s.log = other
	s.mu.Unlock()
	s.loop.Reset(other, []byte("reset"), sockets.CloseTryAgainLater, "another log")
	s.append("new 1")
	notified.want("reset", "n:new 0", "n:new 1")
	if end := raw.wantClose(sockets.CloseTryAgainLater); end.reason != "another log" {
		t.Errorf("reason %q", end.reason)
	}
	s.dial("/?last=1", 0).want("hello", "new 1", "live")
}
