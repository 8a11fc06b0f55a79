package sockets_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// slack is how much later than planned things may happen on a busy machine.
const slack = 3 * time.Second

// drain begins to close all connections; wait waits until that is done.
func (s *server) drain() (wait func()) {
	var drains sync.WaitGroup
	drains.Go(func() {
		s.loop.Drain(30*time.Second, []byte(farewell), 1012, "restart")
	})
	s.t.Cleanup(drains.Wait)
	return drains.Wait
}

const farewell = "come back within 500ms"

func (s *server) wantGone(within time.Duration) {
	s.t.Helper()
	begun := time.Now()
	until(s.t, "the connection is gone", func() bool { return s.stats().Conns == 0 })
	if took := time.Since(begun); took > within+slack {
		s.t.Errorf("gone after %v, want %v", took, within)
	}
}

// closer makes a server whose readers close the connection on the message "close".
func closer(t *testing.T) *server {
	noLeaks(t)
	s := newTCP(t, 64<<20)
	s.read = func(c *sockets.Conn, m []byte) error {
		if string(m) == "close" {
			if err := c.Send([]byte("answer")); err != nil {
				t.Error(err)
			}
			c.Close(4001, strings.Repeat("é", 100))
			c.Close(4002, "only the first counts")
			if c.Context().Err() == nil {
				t.Error("the context goes on")
			}
			if err := c.Send([]byte("never")); err == nil {
				<-c.Context().Done()
			}
			return nil
		}
		return c.Send(m)
	}
	return s
}

func TestServerCloses(t *testing.T) {
	s := closer(t)
	c := s.dial("/", 0)
	c.want("hello", "live")
	c.say("close")
	c.want("answer")
	_, err := c.tryNext()
	var end closed
	if !errors.As(err, &end) || end.code != 4001 || end.reason != strings.Repeat("é", 61) {
		t.Errorf("got %v", err)
	}
	s.append("not sent any more")
	c.send(opClose|fin, []byte{0x0f, 0xa1})
	c.wantEnd()
	c.conn.Close()
	s.wantGone(0)
}

func TestClientCloses(t *testing.T) {
	for name, payload := range map[string][]byte{
		"with a code":            {0x0f, 0xa1},
		"with code and reason":   []byte("\x03\xe8bye"),
		"without a code":         nil,
		"with the longest there": []byte("\x03\xe8" + strings.Repeat("x", 123)),
	} {
		t.Run(name, func(t *testing.T) {
			s := closer(t)
			c := s.dial("/", 0)
			c.want("hello", "live")
			c.say("echo")
			c.send(opClose|fin, payload)
			c.want("echo")
			_, err := c.tryNext()
			if want := closeError(payload[:min(2, len(payload))]); err != want {
				t.Errorf("got %v, want %v", err, want)
			}
			c.wantEnd()
			c.conn.Close()
			s.wantGone(0)
		})
	}
}

func TestClientVanishes(t *testing.T) {
	s := closer(t)
	c := s.dial("/", 0)
	c.want("hello", "live")
	c.conn.Close()
	s.wantGone(0)
}

// A client that does not answer the close frame is waited for a second, and not longer.
func TestClientDoesNotAnswer(t *testing.T) {
	for name, talks := range map[string]bool{"silent": false, "talks on": true} {
		t.Run(name, func(t *testing.T) {
			s := closer(t)
			c := s.dial("/", 0)
			c.want("hello", "live")
			c.say("close")
			c.want("answer")
			begun := time.Now()
			var talking sync.WaitGroup
			if talks {
				talking.Go(func() {
					for time.Since(begun) < 30*time.Second {
						c.conn.SetWriteDeadline(time.Now().Add(patience))
						if _, err := c.conn.Write(masked(opText|fin, []byte("and another thing"))); err != nil {
							return
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			s.wantGone(1100 * time.Millisecond)
			if took := time.Since(begun); took < 500*time.Millisecond {
				t.Errorf("it had only %v to answer", took)
			}
			c.conn.Close()
			talking.Wait()
		})
	}
}

// One that does not even read is closed all the same, after a second.
func TestCloseWithFullSocket(t *testing.T) {
	s := closer(t)
	c := s.dial("/", 16<<10)
	c.want("hello", "live")
	s.makeSlow(nil)
	begun := time.Now()
	s.drain()
	s.wantGone(1100 * time.Millisecond)
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("it had only %v to read", took)
	}
	c.conn.Close()
}

// One that is slow, but reads, gets what was begun and the close frame.
func TestCloseReachesSlowClient(t *testing.T) {
	s := closer(t)
	c := s.dial("/", 128<<10)
	c.want("hello", "live")
	s.makeSlow(nil)
	s.drain()
	c.wantClose(1012)
	c.conn.Close()
	s.wantGone(0)
}

// What gorilla says by itself about a wrong frame goes through the loop, too.
func TestProtocolErrorWithFullSocket(t *testing.T) {
	for code, wrong := range map[int][]byte{
		1002: masked(3|fin, nil),
		1009: masked(opText|fin, make([]byte, 2<<20)),
		1003: masked(opBin|fin, []byte("binary")),
		1007: masked(opText|fin, []byte("\xff")),
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			s := closer(t)
			c := s.dial("/", 128<<10)
			c.want("hello", "live")
			s.makeSlow(nil)
			c.send(wrong[0], nil)
			c.conn.SetWriteDeadline(time.Now().Add(patience))
			go c.conn.Write(wrong)
			c.wantClose(code)
			c.conn.Close()
			s.wantGone(0)
		})
	}
}

func TestDrainIsSpread(t *testing.T) {
	noLeaks(t)
	s := newTCP(t, 1<<20)
	const n, window = 50, 1200 * time.Millisecond // at least, so that of no tenth of a second more than a tenth comes
	var clients []*client
	for i := range n {
		c := s.dial("/", 0, []string{"X-Nothing: 1", notices}[i%2])
		c.want("hello", "live")
		clients = append(clients, c)
	}
	var begun time.Time
	var mu sync.Mutex
	var told []time.Duration
	var readers sync.WaitGroup
	ready := make(chan struct{})
	for i, c := range clients {
		readers.Go(func() {
			<-ready
			if i%2 == 1 {
				c.want(farewell)
			}
			if _, err := c.tryNext(); err != (closed{1012, "restart"}) {
				t.Error(err)
			}
			mu.Lock()
			told = append(told, time.Since(begun))
			mu.Unlock()
			c.send(opClose|fin, nil)
			c.wantEnd()
		})
	}
	begun = time.Now()
	close(ready)
	s.drain()()
	if took := time.Since(begun); took > 2*slack {
		t.Errorf("took %v", took)
	}
	readers.Wait()
	for i, at := range told {
		if earliest := window * time.Duration(i) / n; at < earliest-time.Millisecond {
			t.Errorf("client %d was told after %v, not before %v was planned", i, at, earliest)
		}
	}
	s.wantGone(0)
	for _, c := range clients {
		c.conn.Close()
	}
}

func TestDrainInAHurry(t *testing.T) {
	s := newTCP(t, 1<<20)
	for range 30 {
		s.dial("/", 0).want("hello", "live")
	}
	begun := time.Now()
	s.loop.Drain(0, nil, 1012, "")
	if took := time.Since(begun); took > 2*time.Second+slack { // they do not answer
		t.Errorf("took %v", took)
	}
	s.wantGone(0)
}

// When the loop ends, all sockets are closed, whatever state they are in, and nothing is left.
func TestStop(t *testing.T) {
	noLeaks(t)
	s := newTCP(t, 64<<20)
	var clients []*client
	for i := range 10 {
		c := s.dial("/", 16<<10)
		c.want("hello", "live")
		clients = append(clients, c)
		if i == 5 {
			s.append(strings.Repeat("x", 8<<20)) // the first ones are stuck
		}
	}
	s.stop()
	if stats := s.stats(); stats.Conns != 0 {
		t.Errorf("%+v", stats)
	}
	s.loop.Reset(s.log, nil, 1013, "") // and what is asked of it now returns
	s.drain()()
	s.loop.SetNotice(0, nil)
	s.loop.Wake()
	for _, c := range clients {
		c.conn.Close()
	}
	s.http.Close()
}
