package sockets_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

// drain begins to close all connections; wait waits until all have been told.
func (s *server) drain() (wait func()) {
	var drains sync.WaitGroup
	drains.Go(func() { s.loop.Drain(30*time.Second, []byte("come back"), "restart") })
	s.t.Cleanup(drains.Wait)
	return drains.Wait
}

// closer makes a server whose readers close the connection on the message "close".
func closer(t *testing.T) *server {
	noLeaks(t)
	s := newTCP(t, 64<<20)
	s.read = func(c *sockets.Conn, m []byte) error {
		if string(m) != "close" {
			return c.Send(m)
		}
		if err := c.Send([]byte("answer")); err != nil {
			t.Error(err)
		}
		c.Close(4001, strings.Repeat("é", 100))
		c.Close(4002, "only the first counts")
		if c.Context().Err() == nil || c.Send([]byte("never")) == nil {
			t.Error("the context goes on")
		}
		return nil
	}
	return s
}

func TestServerCloses(t *testing.T) {
	s := closer(t)
	c := s.join(0)
	c.say("close")
	c.want("answer")
	if _, err := c.tryNext(); err != (closed{4001, strings.Repeat("é", 61)}) {
		t.Errorf("got %v", err)
	}
	s.append("not sent any more")
	c.send(opClose|fin, []byte{0x0f, 0xa1})
	c.wantEnd()
	s.wantGone(0)
}

// A client that does not answer the close frame, though it goes on talking, or does not even read,
// is waited for a second, and not longer.
func TestClientDoesNotAnswer(t *testing.T) {
	for name, c := range map[string]struct{ talks, full bool }{"silent": {}, "talks on": {talks: true}, "does not read": {full: true}} {
		t.Run(name, func(t *testing.T) {
			s := closer(t)
			client := s.join(16 << 10)
			until(t, "the connection is counted", func() bool { return s.stats().Conns == 1 })
			if c.full {
				s.makeSlow()
			}
			begun := time.Now()
			client.say("close")
			if !c.full {
				client.want("answer")
			}
			var talking sync.WaitGroup
			talking.Go(func() {
				for c.talks && client.send(opText|fin, []byte("and another thing")) == nil {
					time.Sleep(time.Millisecond)
				}
			})
			s.wantGone(1100 * time.Millisecond)
			if took := time.Since(begun); took < 500*time.Millisecond {
				t.Errorf("it had only %v to answer", took)
			}
			client.conn.Close()
			talking.Wait()
		})
	}
}

// A client that is slow, but reads, gets what was begun and the close frame, whoever closes: a
// drain, or gorilla, which says something about a wrong frame by itself.
func TestCloseReachesSlowClient(t *testing.T) {
	for code, wrong := range map[int][]byte{
		1012: nil,
		1002: masked(3|fin, nil),
		1009: masked(opText|fin, make([]byte, 2<<20)),
		1003: masked(opBin|fin, []byte("binary")),
		1007: masked(opText|fin, []byte("\xff")),
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			s := closer(t)
			c := s.join(128 << 10)
			s.makeSlow()
			if wrong == nil {
				s.drain()
			}
			go c.write(wrong)
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
		clients = append(clients, s.join(0, []string{"X-Nothing: 1", notices}[i%2]))
	}
	begun := time.Now()
	told := make(chan time.Duration, n)
	var readers sync.WaitGroup
	for i, c := range clients {
		readers.Go(func() {
			if i%2 == 1 {
				c.want("come back")
			}
			if _, err := c.tryNext(); err != (closed{1012, "restart"}) {
				t.Error(err)
			}
			told <- time.Since(begun)
			c.send(opClose|fin, nil)
			c.wantEnd()
		})
	}
	wait := s.drain()
	for i := range n {
		if at, earliest := <-told, window*time.Duration(i)/n; at < earliest-time.Millisecond {
			t.Errorf("client %d was told after %v, not before %v was planned", i, at, earliest)
		}
		if i == n/2 { // one that comes now is told at once
			s.dial("/", 0).wantClose(1012)
		}
	}
	wait()
	if took := time.Since(begun); took > 2*slack {
		t.Errorf("took %v", took)
	}
	readers.Wait()
	s.wantGone(0)
}

func TestDrainInAHurry(t *testing.T) {
	s := newTCP(t, 64<<20)
	slow := s.join(128 << 10)
	s.makeSlow()
	var clients []*client
	for range 30 {
		clients = append(clients, s.join(0))
	}
	begun := time.Now()
	s.loop.Drain(0, nil, "")
	s.cancel()
	slow.wantClose(1012) // the loop waits for those that have been told, a second
	s.stop()
	if took := time.Since(begun); took > 2*time.Second+slack {
		t.Errorf("took %v", took)
	}
	for _, c := range clients {
		if _, err := c.tryNext(); err != (closed{1012, ""}) {
			t.Error(err)
		}
	}
}

// When the loop ends, all sockets are closed, whatever state they are in, and nothing is left.
func TestStop(t *testing.T) {
	noLeaks(t)
	s := newTCP(t, 64<<20)
	for i := range 10 {
		s.join(16 << 10)
		if i == 5 {
			s.append(strings.Repeat("x", 8<<20)) // the first ones are stuck
		}
	}
	s.stop()
	if stats := s.stats(); stats.Conns != 0 {
		t.Errorf("%+v", stats)
	}
	s.loop.Reset(s.log, nil, "") // and what is asked of it now returns
	s.drain()()
	s.loop.SetNotice(0, nil)
	s.loop.Wake()
}

// A request that does not come over plain TCP gets no websocket.
func TestOnlyTCP(t *testing.T) {
	s := newServer(t, 1<<20)
	s.http.StartTLS()
	conn, err := tls.Dial("tcp", s.http.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, request("/"))
	if answer, err := io.ReadAll(conn); len(answer) > 0 {
		t.Errorf("%q, %v", answer, err)
	}
}

// A client that connects while the loop ends, or after it, is closed.
func TestComingTooLate(t *testing.T) {
	noLeaks(t)
	for range 50 {
		s := newTCP(t, 1<<20)
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for range 3 {
					c, err := dial(t, s.http.Listener.Addr().String(), "/", 0)
					for err == nil {
						_, err = c.tryNext()
					}
					if !isReset(err) {
						t.Error("a client that came too late was left waiting")
					}
				}
			})
		}
		s.cancel()
		clients.Wait()
		s.stop()
	}
}

// A connection's context ends with its socket: a reader that waits for Kafka does not keep the
// server from stopping, also if it came too late to be drained, and is gone when the peer is
// taken for dead or has taken nothing for long.
func TestContextEndsWithSocket(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*server)
		want sockets.Stats
	}{
		"stop":          {func(s *server) { s.cancel() }, sockets.Stats{}},
		"reset":         {func(s *server) { s.loop.Reset(framelog.New(1<<20, tracks, 0), nil, "") }, sockets.Stats{}},
		"log moves on":  {func(s *server) { s.fill(3 << 20) }, sockets.Stats{FellBehind: 1}},
		"takes nothing": {func(s *server) { s.fill(3 << 17) }, sockets.Stats{Stuck: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := newTCP(t, 1<<20, tick(10*time.Millisecond))
			waits := make(chan struct{})
			s.read = func(c *sockets.Conn, _ []byte) error {
				close(waits)
				<-c.Context().Done() // as for Kafka
				return c.Context().Err()
			}
			s.join(4096).say("publish")
			<-waits
			c.end(s)
			select {
			case <-s.ended:
			case <-time.After(patience):
				t.Fatalf("the reader waits on: %+v", s.stats())
			}
			until(t, "the reason is counted", func() bool {
				stats := s.stats()
				return stats.FellBehind == c.want.FellBehind && stats.Stuck == c.want.Stuck
			})
		})
	}
}
