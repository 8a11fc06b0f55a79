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

// A client gets what was sent before the close frame; one that does not answer has the agreed time.
func TestServerCloses(t *testing.T) {
	const wait = 300 * time.Millisecond
	for _, peer := range []string{"answers", "is silent", "talks on", "does not read", "meets a late loop"} {
		t.Run(peer, func(t *testing.T) {
			s := newTCP(t, 64<<20)
			s.read = func(c *sockets.Conn, m []byte) error {
				if string(m) != c.RemoteAddr().String() { // a client says its address to be closed
					return c.Send(m)
				}
				c.Send([]byte("answer"))
				c.Close(4001, strings.Repeat("é", 100))
				c.Close(4002, "only the first counts")
				if c.Context().Err() == nil || c.Send([]byte("never")) == nil {
					t.Error("the context goes on")
				}
				return nil
			}
			if peer != "answers" {
				s.loop.SetCloseWait(wait)
			}
			client := s.join(16 << 10)
			s.wantConns(1)
			switch peer {
			case "does not read":
				s.makeSlow()
			case "meets a late loop": // which, when the time is over, has not yet seen that there is something to write
				s.place = func(*framelog.Log) (p sockets.Placement, ok bool) { time.Sleep(2 * wait); return p, true }
				s.dial("/", 0).conn.Close()
			}
			begun := time.Now()
			client.say(client.conn.LocalAddr().String())
			if peer != "does not read" {
				client.want("answer")
				if got := client.next(); got != "close 4001 "+strings.Repeat("é", 61) {
					t.Errorf("got %q", got)
				}
			}
			if peer == "answers" {
				s.append("not sent any more")
				client.send(opClose|fin, "\x0f\xa1")
				client.wantEnd()
				client.conn.Close()
			}
			for peer == "talks on" && client.send(opText|fin, "and another thing") == nil {
				time.Sleep(time.Millisecond)
			}
			s.wantConns(0)
			if took := time.Since(begun); peer != "answers" && took < wait {
				t.Errorf("it had only %v to answer", took)
			}
		})
	}
}

// A slow client gets what was begun and the close frame, whether a drain closes or gorilla.
func TestCloseReachesSlowClient(t *testing.T) {
	for code, wrong := range map[int]string{
		1012: "",
		1002: f(3|fin, ""),
		1009: f(opText|fin, strings.Repeat("x", 2<<20)),
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			s := newTCP(t, 64<<20)
			c := s.join(128 << 10)
			s.makeSlow()
			if wrong == "" {
				s.loop.Drain(0, nil, "")
				s.cancel()
			}
			go c.write(wrong)
			if code == 1002 {
				time.Sleep(1100 * time.Millisecond) // longer than gorilla gives a close frame
			}
			c.wantClose(code)
			c.conn.Close()
			s.wantConns(0)
		})
	}
}

func TestDrainIsSpread(t *testing.T) {
	s := newTCP(t, 1<<20)
	const n, window = 50, 1200 * time.Millisecond // at least, so that of no tenth of a second more than a tenth comes
	var clients []*client
	for i := range n {
		clients = append(clients, s.join(0, []string{"X-Nothing: 1", notices}[i%2]))
	}
	begun := time.Now()
	go s.loop.Drain(30*time.Second, []byte("come back"), "restart")
	for i, c := range clients {
		if i%2 == 1 {
			c.want("come back")
		}
		reason := c.wantClose(1012)
		if at, earliest := time.Since(begun), window*time.Duration(i)/n; reason != "restart" || at < earliest-time.Millisecond {
			t.Errorf("client %d was told %q after %v, not before %v was planned", i, reason, at, earliest)
		}
		c.conn.Close()
		if i == n/2 { // one that comes now is told at once
			s.dial("/", 0).wantClose(1012)
		}
	}
}

// A client that connects while the loop ends, or after it, is closed.
func TestComingTooLate(t *testing.T) {
	for range 30 {
		s := newTCP(t, 1<<20)
		var clients sync.WaitGroup
		for range 12 {
			clients.Go(func() {
				if end := s.dial("/", 0).skipAll(); end != "end" {
					t.Errorf("a client that came too late got %q", end)
				}
			})
		}
		s.cancel()
		clients.Wait()
		s.stop()
	}
}

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

// A reader that waits for Kafka ends with its socket. A stopped loop answers no more.
func TestContextEndsWithSocket(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*server)
		want sockets.Stats
	}{
		"reset":         {func(s *server) { s.loop.Reset(framelog.New(1<<20, tracks, 0), nil, "") }, sockets.Stats{Conns: 1}},
		"log moves on":  {func(s *server) { s.fill(3 << 20) }, sockets.Stats{FellBehind: 1}},
		"takes nothing": {func(s *server) { s.makeSlow(); s.loop.Ticks(40) }, sockets.Stats{Stuck: 1}},
		"stop": {func(s *server) {
			s.makeSlow()
			s.stop()
			s.loop.Reset(s.log, nil, "")
			s.loop.Drain(patience, nil, "")
		}, sockets.Stats{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTCP(t, 1<<20)
			waits := make(chan struct{})
			s.read = func(c *sockets.Conn, _ []byte) error {
				close(waits)
				<-c.Context().Done() // as for Kafka
				return c.Context().Err()
			}
			s.join(4096).say("publish")
			<-waits
			c.end(s)
			<-s.ended
			until(t, "the reason is counted", func() bool {
				got := s.loop.Stats()
				return sockets.Stats{Conns: got.Conns, FellBehind: got.FellBehind, Stuck: got.Stuck} == c.want
			})
		})
	}
}
