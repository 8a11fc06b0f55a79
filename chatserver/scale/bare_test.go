//go:build scale && linux

package scale

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// must ends a process that is not the test, if something has failed.
func must(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Getenv(roleVariable), err)
		os.Exit(1)
	}
}

// A poll has sockets whose reader waits for all of them at once.
type poll struct {
	epoll  int
	events [512]unix.EpollEvent
}

func newPoll() *poll {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(err)
	return &poll{epoll: epoll}
}

// add takes a connection's socket out of Go's hands.
func (p *poll) add(conn net.Conn) (fd int) {
	defer conn.Close()
	socket, err := conn.(*net.TCPConn).SyscallConn()
	must(err)
	must(socket.Control(func(its uintptr) { fd, err = unix.Dup(int(its)) }))
	must(err)
	must(unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	return fd
}

// wait returns which sockets can be read, after so many milliseconds at the latest; -1 has no end.
func (p *poll) wait(most int) []unix.EpollEvent {
	n, err := unix.EpollWait(p.epoll, p.events[:], most)
	if err != unix.EINTR {
		must(err)
	}
	return p.events[:max(n, 0)]
}

// A bare is the limit of what one loop can do: it takes messages, and writes those that came
// during a pass over the clients to every client with one write(2). It trusts its clients.
type bare struct {
	*poll
	clients  map[int]*bareClient
	gathered []byte
}

type bareClient struct {
	joined bool
	in     []byte // a part of a request or frame
	rest   []byte // what the socket did not take
}

// bareMain is the process of the limit. It says where it listens, and ends with its standard input.
func bareMain() {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err)
	b := &bare{poll: newPoll(), clients: make(map[int]*bareClient)}
	go func() { // accepted by Go, served by the loop
		for {
			conn, err := ln.Accept()
			must(err)
			b.add(conn)
		}
	}()
	go b.loop()
	json.NewEncoder(os.Stdout).Encode(ln.Addr().String())
	os.Stdin.Read(make([]byte, 1))
}

func (b *bare) loop() {
	buf := make([]byte, 64<<10)
	for full := false; ; {
		most := -1
		if full {
			most = 1
		}
		for _, e := range b.wait(most) {
			b.read(int(e.Fd), buf)
		}
		if len(b.gathered) > 0 || full {
			full = false
			for fd, c := range b.clients {
				if c.joined {
					full = c.write(fd, b.gathered) || full
				}
			}
			b.gathered = b.gathered[:0]
		}
	}
}

func (b *bare) read(fd int, buf []byte) {
	c := b.clients[fd]
	if c == nil {
		c = &bareClient{}
		b.clients[fd] = c
	}
	n, err := unix.Read(fd, buf)
	if n <= 0 {
		if err != unix.EAGAIN && err != unix.EINTR {
			unix.Close(fd)
			delete(b.clients, fd)
		}
		return
	}
	c.in = append(c.in, buf[:n]...)
	if !c.joined {
		if bytes.HasSuffix(c.in, []byte("\r\n\r\n")) {
			c.joined, c.in = true, nil
			c.write(fd, []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"))
		}
		return
	}
	const head = 6 // of a client's frame with a short length, with its mask, which is 0
	for len(c.in) >= head && len(c.in) >= head+int(c.in[1]&^masked) {
		length := int(c.in[1] &^ masked)
		b.gathered = append(append(b.gathered, c.in[0], byte(length)), c.in[head:head+length]...)
		c.in = c.in[head+length:]
	}
}

// write writes what is left of before, and p. Full says that the socket did not take all of it.
func (c *bareClient) write(fd int, p []byte) (full bool) {
	if len(c.rest) > 0 {
		c.rest = append(c.rest, p...)
		p = c.rest
	}
	if len(p) == 0 {
		return false
	}
	n, err := unix.Write(fd, p)
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		n = len(p) // the client is gone, which read finds out
	}
	c.rest = append(c.rest[:0], p[max(n, 0):]...)
	return len(c.rest) > 0
}
