//go:build scale && linux

package scale

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A command is a line that the test writes to a load process; it answers with a line.
type command struct {
	Do string // one of the methods of loader
	// For connect: clients come to the pods in turn, from an address of this machine.
	Addrs   []string
	Source  string
	Clients int
	// For begin, send and tally: message n of a run is sent by client n modulo Senders.
	Run, Messages, Senders int
	PerSecond              float64 // 0: each sender sends its next message when its last one is back
}

type answer struct {
	Err   string
	Took  time.Duration // of send, with the pause after the last message
	Tally Tally
}

const (
	patience   = 60 * time.Second // for the slowest of everything on a busy machine
	connecting = 8                // clients that come at the same time
	readBuffer = 256 << 10
)

// A loader is a process with many clients. It reads for all of them in one goroutine, into one
// buffer; 15,000 of them cost it a few MB.
type loader struct {
	epoll int
	fds   []int // only grows, by connect

	mu       sync.Mutex // guards the following; held by the reader for the events of one wake-up
	clients  map[int]*client
	run      int
	messages int // of the run
	senders  int // of a closed loop: 0 if the run is none
	journals []*journal
	tally    Tally
	left     int           // deliveries that are still to come
	done     chan struct{} // closed when none are
}

// A client is a websocket.
type client struct {
	index int
	rest  []byte // a part of a frame
}

// loadMain is the load process. It ends with its standard input.
func loadMain() {
	l := &loader{clients: make(map[int]*client)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	go l.read()
	out := json.NewEncoder(os.Stdout)
	for in := json.NewDecoder(os.Stdin); ; {
		var c command
		if err := in.Decode(&c); err != nil {
			return
		}
		var a answer
		if err := l.do(c, &a); err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return
		}
	}
}

func (l *loader) do(c command, a *answer) (err error) {
	switch c.Do {
	case "connect":
		err = l.connect(c)
	case "begin":
		l.begin(c)
	case "send":
		a.Took, err = l.send(c)
	case "tally":
		a.Tally = l.end()
	}
	return err
}

// connect has clients come, a few at a time.
func (l *loader) connect(c command) error {
	next, failed := make(chan string), make(chan error, connecting)
	for range connecting {
		go func() {
			var err error
			for addr := range next {
				if err == nil {
					err = l.join(addr, c.Source)
				}
			}
			failed <- err
		}()
	}
	for i := range c.Clients {
		next <- c.Addrs[i%len(c.Addrs)]
	}
	close(next)
	var err error
	for range connecting {
		err = errors.Join(err, <-failed)
	}
	return err
}

// join opens a websocket; from then on it is read.
func (l *loader) join(addr, source string) error {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	from, err := netip.ParseAddr(source)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// The port is chosen by connect, so that each pod can have all ports of a source address.
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}),
		unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}))
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return fmt.Errorf("connecting to %s: %w", addr, err)
	}
	const request = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if _, err := unix.Write(fd, []byte(request)); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	var got []byte
	var buf [1024]byte
	for !bytes.Contains(got, []byte("\r\n\r\n")) {
		n, err := unix.Read(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return fmt.Errorf("handshake answered with %q: %w", got, errors.Join(err, io.ErrUnexpectedEOF))
		}
		got = append(got, buf[:n]...)
	}
	head, rest, _ := bytes.Cut(got, []byte("\r\n\r\n"))
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("handshake answered with %q", got)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	l.mu.Lock()
	l.clients[fd] = &client{index: len(l.fds), rest: bytes.Clone(rest)}
	l.fds = append(l.fds, fd)
	l.mu.Unlock()
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// begin makes ready for a run.
func (l *loader) begin(c command) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run, l.messages, l.senders = c.Run, c.Messages, 0
	l.journals = make([]*journal, len(l.fds))
	for i := range l.journals {
		l.journals[i] = newJournal(c.Messages, c.Senders)
	}
	l.tally = Tally{Slowest: make([]time.Duration, c.Messages), Gone: len(l.fds) - len(l.clients)}
	l.left, l.done = c.Messages*len(l.fds), make(chan struct{})
}

// send has the run's senders send its messages. In a closed loop it sends the first message of each;
// the others are sent by the reader.
func (l *loader) send(c command) (time.Duration, error) {
	l.mu.Lock()
	fds := l.fds[:c.Senders]
	l.mu.Unlock()
	send := func(n int) error { return write(fds[n%c.Senders], messageFrame(c.Run, n)) }
	if c.PerSecond > 0 {
		return c.pace(send)
	}
	l.mu.Lock()
	l.senders = c.Senders
	l.mu.Unlock()
	begun := time.Now()
	for n := range min(c.Senders, c.Messages) {
		if err := send(n); err != nil {
			return 0, fmt.Errorf("sending message %d: %w", n, err)
		}
	}
	return time.Since(begun), nil
}

func messageFrame(run, n int) []byte {
	return appendFrame(nil, opText, appendMessage(nil, run, n, time.Now()))
}

// pace sends each message of a run at its time, or as soon as it can. It returns at the time of
// the one that would follow.
func (c command) pace(send func(n int) error) (time.Duration, error) {
	begun := time.Now()
	for n := range c.Messages + 1 {
		time.Sleep(time.Until(begun.Add(time.Duration(float64(n) / c.PerSecond * 1e9))))
		if n == c.Messages {
			break
		}
		if err := send(n); err != nil {
			return 0, fmt.Errorf("sending message %d: %w", n, err)
		}
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

// end waits for all deliveries of the run, and says what was delivered.
func (l *loader) end() Tally {
	select {
	case <-l.done:
	case <-time.After(patience):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.close(l.journals)
	l.run = 0
	return l.tally
}
