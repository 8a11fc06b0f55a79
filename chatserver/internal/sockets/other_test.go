package sockets_test

import (
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// newTLS returns a server whose connections are not plain sockets.
func newTLS(t testing.TB, logBytes int) *server {
	s := newServer(t, logBytes)
	s.http.StartTLS()
	return s
}

// newPiped returns a server that listens on pipes in memory.
func newPiped(t testing.TB, logBytes int) (s *server, connect func() net.Conn) {
	s = newServer(t, logBytes)
	l := &pipes{make(chan net.Conn), make(chan struct{}), sync.Once{}}
	s.http = &httptest.Server{Listener: l, Config: s.http.Config}
	s.http.Start()
	return s, func() net.Conn {
		near, far := net.Pipe()
		l.conns <- far
		t.Cleanup(func() { near.Close() })
		return near
	}
}

type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func TestTLS(t *testing.T) {
	noLeaks(t)
	s := newTLS(t, 1<<20)
	for i := range 10 {
		s.append(strconv.Itoa(i))
	}
	c := s.dial("/?last=3", 0)
	c.want("hello", "7", "8", "9", "live")
	if stats := s.stats(); stats.Solos != 1 {
		t.Errorf("%+v: a connection that cannot be written to without waiting is with the loop", stats)
	}
	n := s.dial("/", 0, notices)
	n.want("hello", "live")
	s.loop.SetNotice(0, []byte("status"))
	n.want("status")
	long := strings.Repeat("long ", 100_000)
	s.append(long)
	c.want(long)
	n.want("n:" + long)
	c.say("echo")
	c.want("echo")
	c.send(opPing|fin, []byte("are you there"))
	if opcode, payload, err := c.frame(); opcode != opPong || string(payload) != "are you there" {
		t.Error(opcode, payload, err)
	}
	drained := s.drain()
	c.wantClose(1012)
	c.conn.Close()
	n.want(farewell)
	n.wantClose(1012)
	n.conn.Close()
	drained()
	until(t, "they are gone", func() bool { return s.stats().Conns == 0 && s.stats().Solos == 0 })
}

// A connection that has everything is kept, also if it was sent nothing of the log so far and
// the log lets go of what came before.
func TestOthersAreNotBehind(t *testing.T) {
	s := newTLS(t, 64<<10)
	for range 3 {
		s.append(strings.Repeat("x", 2000))
	}
	for range 40 {
		c := s.dial("/", 0)
		c.want("hello", "live")
		m := strings.Repeat("x", 20_000) // each evicts
		s.append(m)
		c.want(m)
		c.conn.Close()
		until(t, "it is gone", func() bool { return s.stats().Conns == 0 }) // else it is behind the next one
	}
	if n := s.stats().FellBehind; n != 0 {
		t.Errorf("%d connections fell behind", n)
	}
}

// Time does not pass by itself here, so nobody waits for it.

func TestPeersAreAskedAndDropped(t *testing.T) {
	for _, age := range []time.Duration{0, 10 * time.Second, time.Hour} { // of the server when they come
		synctest.Test(t, func(t *testing.T) {
			s, connect := newPiped(t, 1<<20)
			time.Sleep(age)
			begun := time.Now()
			living, dead := handshake(t, connect(), "/"), handshake(t, connect(), "/")
			var pings int
			var livingEnd, deadEnd error
			var readers sync.WaitGroup
			readers.Go(func() {
				for {
					opcode, payload, err := living.frame()
					if err != nil {
						livingEnd = err
						return
					}
					if opcode == opPing {
						pings++
						living.conn.Write(masked(opPong|fin, payload))
					}
				}
			})
			var died time.Duration
			var asked int
			readers.Go(func() {
				for {
					opcode, _, err := dead.frame()
					if err != nil {
						deadEnd, died = err, time.Since(begun)
						return
					}
					if opcode == opPing {
						asked++
					}
				}
			})
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if stats := s.stats(); stats.Conns != 1 || stats.Dead == 0 {
				t.Errorf("after ten minutes: %+v", stats)
			}
			if deadEnd == nil || died < 30*time.Second || died > 62*time.Second || asked == 0 {
				t.Errorf("the silent peer was asked %d times and ended after %v with %v", asked, died, deadEnd)
			}
			if livingEnd != nil || pings < 10 || pings > 30 {
				t.Errorf("the other was asked %d times, and ended with %v", pings, livingEnd)
			}
			s.http.Close()
			s.stop()
			readers.Wait()
		})
	}
}

// Who waits for Kafka does not read, so the silence is not the peer's.
func TestWaitingIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, connect := newPiped(t, 1<<20)
		c := handshake(t, connect(), "/", notices)
		c.want("hello", "live")
		release := make(chan struct{})
		s.read = func(*sockets.Conn, []byte) error { <-release; return nil }
		c.say("publish")
		c.conn.SetDeadline(time.Time{})
		go func() {
			for {
				if _, _, err := c.frame(); err != nil {
					return
				}
			}
		}()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if stats := s.stats(); stats.Conns != 1 || stats.Dead != 0 {
			t.Errorf("%+v", stats)
		}
		close(release)
		time.Sleep(10 * time.Minute) // from now on it is its own
		synctest.Wait()
		if stats := s.stats(); stats.Conns != 0 || stats.Dead == 0 {
			t.Errorf("%+v", stats)
		}
		s.http.Close()
		s.stop()
		c.conn.Close()
	})
}

// A peer that takes no bytes is given up, without any limit of the log being reached.
func TestPeersThatTakeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, connect := newPiped(t, 1<<20)
		handshake(t, connect(), "/")
		begun := time.Now()
		for s.stats().Conns == 0 {
			time.Sleep(time.Second)
		}
		for s.stats().Conns > 0 {
			time.Sleep(time.Second)
		}
		if took := time.Since(begun); took < 10*time.Second || took > 60*time.Second {
			t.Errorf("given up after %v", took)
		}
		s.http.Close()
		s.stop()
	})
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
					conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
					if err != nil {
						return
					}
					defer conn.Close()
					c := handshake(t, conn, "/")
					c.conn.SetReadDeadline(time.Now().Add(patience))
					for {
						if _, _, err := c.frame(); err != nil {
							if !isReset(err) {
								t.Error("a client that came too late was left waiting")
							}
							break
						}
					}
				}
			})
		}
		s.cancel()
		s.stop()
		clients.Wait()
		s.http.Close()
	}
}
