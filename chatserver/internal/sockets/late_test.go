package sockets_test

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// A request that does not come over plain TCP gets no websocket.
func TestOnlyTCP(t *testing.T) {
	s := newServer(t, 1<<20)
	s.http.StartTLS()
	conn := tls.Client(s.connect(0), &tls.Config{InsecureSkipVerify: true})
	if _, err := io.WriteString(conn, request("/")); err != nil {
		t.Fatal(err)
	}
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
					conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
					if err != nil {
						return
					}
					defer conn.Close()
					c := handshake(t, conn, "/")
					for err = nil; err == nil; _, err = c.tryNext() {
					}
					if !isReset(err) {
						t.Error("a client that came too late was left waiting")
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

// A connection's context ends with its socket: a reader that waits for Kafka does not keep the
// server from stopping, also if it came too late to be drained, and is gone when the peer is
// taken for dead or has taken nothing for long.
func TestContextEndsWithSocket(t *testing.T) {
	for name, end := range map[string]func(*server, *client){
		"stop":          func(s *server, _ *client) { s.cancel() },
		"reset":         func(s *server, _ *client) { s.loop.Reset(s.log, nil, 1013, "") },
		"log moves on":  func(s *server, _ *client) { s.fill(3 << 20) },
		"takes nothing": func(s *server, _ *client) { s.fill(3 << 17) },
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := newTCP(t, 1<<20, tick(10*time.Millisecond))
			waits, ended := make(chan struct{}), make(chan struct{})
			s.read = func(c *sockets.Conn, _ []byte) error {
				close(waits)
				<-c.Context().Done() // as for Kafka
				close(ended)
				return c.Context().Err()
			}
			c := s.dial("/", 4096)
			c.want("hello", "live")
			c.say("publish")
			<-waits
			end(s, c)
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatalf("the reader waits on: %+v", s.stats())
			}
			c.conn.Close()
			s.http.Close()
			s.stop()
		})
	}
}
