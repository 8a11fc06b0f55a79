//go:build scale && linux

package scale

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// read reads for all clients, as long as the process lives.
func (l *loader) read() {
	events := make([]unix.EpollEvent, 512)
	buf := make([]byte, readBuffer)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			fmt.Fprintln(os.Stderr, "load: waiting for clients:", err)
			os.Exit(1)
		}
		l.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			l.readClient(int(e.Fd), buf)
		}
		l.mu.Unlock()
	}
}

// readClient takes what a client has received. It must be called with mu held.
func (l *loader) readClient(fd int, buf []byte) {
	c := l.clients[fd]
	have := copy(buf, c.rest)
	n, err := unix.Read(fd, buf[have:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if n <= 0 {
		l.leave(fd)
		return
	}
	now := time.Now().UnixNano()
	rest := buf[:have+n]
	for {
		opcode, payload, after, ok := nextFrame(rest)
		if !ok {
			break
		}
		rest = after
		switch opcode {
		case opText:
			if n, own := l.take(c, payload, now); own && write(fd, messageFrame(l.run, n+l.senders)) != nil {
				l.leave(fd)
				return
			}
		case opPing:
			if write(fd, appendFrame(nil, opPong, payload)) != nil {
				l.leave(fd)
				return
			}
		default:
			l.leave(fd)
			return
		}
	}
	c.rest = append(c.rest[:0], rest...)
}

// take notes a delivery; what is not of the run is somebody else's. Own says that the run is a closed
// loop, and that it is this client's turn to send another message.
func (l *loader) take(c *client, text []byte, now int64) (n int, own bool) {
	run, n, at, ok := parseMessage(text)
	if !ok || run != l.run || n >= l.messages || !l.journals[c.index].take(n) {
		return 0, false
	}
	l.tally.note(n, time.Duration(now-at))
	if l.left--; l.left == 0 {
		close(l.done)
	}
	return n, l.senders > 0 && n%l.senders == c.index && n+l.senders < l.messages
}

// leave stops reading from a client. Its descriptor stays, so that no other gets its number.
func (l *loader) leave(fd int) {
	unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	delete(l.clients, fd)
	l.tally.Gone++
}
