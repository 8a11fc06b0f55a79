package sockets_test

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// readers is the process of all clients: it reads, counts bytes, and throws them away.
type readers struct {
	epoll int
	total atomic.Int64
	grown chan struct{} // capacity 1: total has changed
	fds   []int
}

func newReaders() *readers {
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		panic(err)
	}
	r := &readers{epoll: epoll, grown: make(chan struct{}, 1)}
	go r.read()
	return r
}

func (r *readers) read() {
	events := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 256<<10)
	for {
		n, err := syscall.EpollWait(r.epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			panic(err)
		}
		got := 0
		for _, e := range events[:max(n, 0)] {
			k, err := syscall.Read(int(e.Fd), buf)
			if k == 0 || err != nil && err != syscall.EAGAIN {
				syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_DEL, int(e.Fd), nil) // the sum will tell
			}
			got += max(k, 0)
		}
		r.total.Add(int64(got))
		select {
		case r.grown <- struct{}{}:
		default:
		}
	}
}

func (r *readers) answer(words []string) (m measure, err error) {
	switch words[0] {
	case "connect":
		var protocol []string
		if len(words) > 3 {
			protocol = []string{"Sec-WebSocket-Protocol: " + words[3]}
		}
		for range number(words[2]) {
			if err := r.connect(words[1], protocol); err != nil {
				return m, err
			}
		}
	case "expect":
		for _, fd := range r.fds {
			syscall.Write(fd, masked(opPong|fin, nil)) // a sign of life, so that none is asked for
		}
		timeout := time.NewTimer(patience)
		defer timeout.Stop()
		for want := int64(number(words[1])); r.total.Load() < want; {
			select {
			case <-r.grown:
			case <-timeout.C:
				m.Length = r.total.Load()
				return m, nil
			}
		}
		m.Length = r.total.Load()
	}
	return m, nil
}

func (r *readers) connect(addr string, protocol []string) error {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	to := &syscall.SockaddrInet4{Port: tcp.Port}
	copy(to.Addr[:], tcp.IP.To4())
	if err := syscall.Connect(fd, to); err != nil {
		return err
	}
	if _, err := syscall.Write(fd, []byte(request("/", protocol...))); err != nil {
		return err
	}
	var head [1]byte // byte by byte: what follows the head is counted
	var answer strings.Builder
	for !strings.HasSuffix(answer.String(), "\r\n\r\n") {
		if n, err := syscall.Read(fd, head[:]); n <= 0 {
			return fmt.Errorf("handshake answered with %q, %v", answer.String(), err)
		}
		answer.Write(head[:])
	}
	if !strings.HasPrefix(answer.String(), "HTTP/1.1 101 ") {
		return fmt.Errorf("handshake answered with %q", answer.String())
	}
	syscall.Write(fd, masked(opPong|fin, nil))
	syscall.SetNonblock(fd, true)
	r.fds = append(r.fds, fd)
	return syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}
