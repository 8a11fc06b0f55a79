//go:build scale && linux

package scale

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
)

// A command is a line that the test writes to a load process; it answers with a line.
type command struct {
	Do string // connect, begin, send or tally

	Host    string // for connect: an address of this machine, each of which has ports of its own
	Ports   []string
	Clients int // come to the ports in turn

	Run, Messages, Senders int     // message n of a run is sent by client n modulo Senders
	PerSecond              float64 // 0, a closed loop: each sender sends its next message when its last one is back
}

type answer struct {
	Took  time.Duration // of send, with the pause after the last message
	Tally *Tally
}

const patience = 60 * time.Second // for the slowest of everything on a busy machine

// A loader is a process with many clients, for all of which one goroutine reads.
type loader struct {
	*poll
	fds []int // only grows, by connect

	mu       sync.Mutex // guards the following; held by the reader for the events of one wake-up
	clients  map[int]*client
	run      int
	messages int // of the run
	senders  int // of a closed loop: 0 if the run is none
	journals []*journal
	tally    *Tally
	left     int           // deliveries that are still to come
	done     chan struct{} // closed when none are
}

type client struct {
	index int
	rest  []byte // a part of a frame
}

// loadMain is the load process. It ends with its standard input.
func loadMain() {
	l := &loader{poll: newPoll(), clients: make(map[int]*client), tally: newTally(0)}
	go l.read()
	out := json.NewEncoder(os.Stdout)
	for in := json.NewDecoder(os.Stdin); ; {
		var c command
		if in.Decode(&c) != nil {
			return
		}
		var a answer
		switch c.Do {
		case "connect":
			l.connect(c)
		case "begin":
			l.begin(c)
		case "send":
			a.Took = l.send(c)
		case "tally":
			a.Tally = l.end()
		}
		must(out.Encode(a))
	}
}

// connect has clients come, a few at a time. From then on they are read.
func (l *loader) connect(c command) {
	const few = 8
	dialer := websocket.Dialer{HandshakeTimeout: patience}
	var all sync.WaitGroup
	for first := range few {
		all.Go(func() {
			for i := first; i < c.Clients; i += few {
				ws, _, err := dialer.Dial("ws://"+net.JoinHostPort(c.Host, c.Ports[i%len(c.Ports)])+"/ws", nil)
				must(err)
				l.mu.Lock() // the reader looks the client up when it has the lock
				fd := l.add(ws)
				l.clients[fd] = &client{index: len(l.fds)}
				l.fds = append(l.fds, fd)
				l.mu.Unlock()
			}
		})
	}
	all.Wait()
}

func (l *loader) begin(c command) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run, l.messages, l.senders = c.Run, c.Messages, 0
	l.journals = make([]*journal, len(l.fds))
	for i := range l.journals {
		l.journals[i] = newJournal(c.Messages, c.Senders)
	}
	l.tally = newTally(c.Messages)
	l.tally.Gone = len(l.fds) - len(l.clients)
	l.left, l.done = c.Messages*len(l.fds), make(chan struct{})
}

// send sends the messages of a run. In a closed loop the reader sends all but the first of each client.
func (l *loader) send(c command) time.Duration {
	if c.PerSecond == 0 {
		l.mu.Lock()
		l.senders = c.Senders
		l.mu.Unlock()
		c.Messages, c.PerSecond = min(c.Senders, c.Messages), 1e9
	}
	took, err := c.pace(func(n int) error { return write(l.fds[n%c.Senders], messageFrame(c.Run, n)) })
	must(err)
	return took
}

func messageFrame(run, n int) []byte { return clientFrame(opText, message(run, n, time.Now())) }

// pace sends each message of a run at its time, and returns at the time of the one that would follow.
func (c command) pace(send func(n int) error) (time.Duration, error) {
	begun := time.Now()
	for n := range c.Messages {
		if err := send(n); err != nil {
			return 0, fmt.Errorf("sending message %d: %w", n, err)
		}
		time.Sleep(time.Until(begun.Add(time.Duration(float64(n+1) / c.PerSecond * 1e9))))
	}
	return time.Since(begun), nil
}

// write writes a frame, which fits into the socket since there is little in it.
func write(fd int, frame []byte) error {
	if n, err := unix.Write(fd, frame); n != len(frame) {
		return errors.Join(err, io.ErrShortWrite)
	}
	return nil
}

func (l *loader) end() *Tally {
	select {
	case <-l.done:
	case <-time.After(patience):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range l.journals {
		l.tally.close(j)
	}
	l.run = 0
	return l.tally
}

func (l *loader) read() {
	buf := make([]byte, 256<<10)
	for {
		events := l.wait()
		l.mu.Lock()
		for _, e := range events {
			if fd := int(e.Fd); !l.readClient(fd, buf) {
				// Its descriptor stays, so that no other client gets its number.
				unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
				delete(l.clients, fd)
				l.tally.Gone++
			}
		}
		l.mu.Unlock()
	}
}

// readClient takes what a client has received, and says whether it is still connected. It must be called with mu held.
func (l *loader) readClient(fd int, buf []byte) bool {
	c := l.clients[fd]
	have := copy(buf, c.rest)
	n, err := unix.Read(fd, buf[have:])
	if n <= 0 {
		return err == unix.EAGAIN || err == unix.EINTR
	}
	now := time.Now().UnixNano()
	rest := buf[:have+n]
	for {
		opcode, payload, after, ok := nextFrame(rest)
		if !ok {
			c.rest = append(c.rest[:0], rest...)
			return true
		}
		rest = after
		switch opcode {
		case opText:
			if n, own := l.take(c, payload, now); own && write(fd, messageFrame(l.run, n+l.senders)) != nil {
				return false
			}
		case opPing:
			if write(fd, clientFrame(opPong, payload)) != nil {
				return false
			}
		default:
			return false
		}
	}
}

// take notes a delivery. Own: the run is a closed loop, and the client has to send another message.
func (l *loader) take(c *client, text []byte, now int64) (n int, own bool) {
	run, n, at, ok := parseMessage(text)
	if !ok || run != l.run || n >= l.messages || !l.tally.take(l.journals[c.index], n, time.Duration(now-at)) {
		return 0, false
	}
	if l.left--; l.left == 0 {
		close(l.done)
	}
	return n, l.senders > 0 && n%l.senders == c.index && n+l.senders < l.messages
}
