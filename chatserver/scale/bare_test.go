//go:build scale && linux

package scale

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
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

// add takes a websocket's socket out of Go's hands.
func (p *poll) add(ws *websocket.Conn) (fd int) {
	defer ws.Close()
	socket, err := ws.NetConn().(*net.TCPConn).SyscallConn()
	must(err)
	must(socket.Control(func(its uintptr) { fd, err = unix.Dup(int(its)) }))
	must(err)
	must(unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	return fd
}

func (p *poll) wait() []unix.EpollEvent {
	n, err := unix.EpollWait(p.epoll, p.events[:], -1)
	if err != unix.EINTR {
		must(err)
	}
	return p.events[:max(n, 0)]
}

// A bare writes the messages that came during a pass over the clients to every client with one write(2).
type bare struct {
	*poll
	mu      sync.Mutex     // held during a pass
	clients map[int][]byte // by socket: a part of a frame
}

// bareMain is the process of the limit. It says where it listens, and ends with its standard input.
func bareMain() {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err)
	b := &bare{poll: newPoll(), clients: make(map[int][]byte)}
	go http.Serve(ln, http.HandlerFunc(b.join))
	go b.loop()
	json.NewEncoder(os.Stdout).Encode(ln.Addr().String())
	os.Stdin.Read(make([]byte, 1))
}

func (b *bare) join(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock() // who has been answered gets all that follows
	defer b.mu.Unlock()
	ws, err := new(websocket.Upgrader).Upgrade(w, r, nil)
	must(err)
	fd := b.add(ws)
	must(unix.SetNonblock(fd, false))
	b.clients[fd] = nil
}

func (b *bare) loop() {
	var gathered []byte
	for buf := make([]byte, 64<<10); ; gathered = gathered[:0] {
		events := b.wait()
		b.mu.Lock()
		for _, e := range events {
			gathered = b.read(int(e.Fd), buf, gathered)
		}
		for fd := range b.clients {
			for rest := gathered; len(rest) > 0; {
				n, err := unix.Write(fd, rest)
				if err != nil && err != unix.EINTR {
					break // the client is gone, which read finds out
				}
				rest = rest[max(n, 0):]
			}
		}
		b.mu.Unlock()
	}
}

// read appends the frames that a client has sent, as all get them.
func (b *bare) read(fd int, buf, gathered []byte) []byte {
	n, err := unix.Read(fd, buf)
	if n <= 0 && err != unix.EINTR {
		unix.Close(fd)
		delete(b.clients, fd)
		return gathered
	}
	in := append(b.clients[fd], buf[:max(n, 0)]...)
	const head = 6 // of a client's frame with a short length, with its mask, which is 0
	for ; len(in) >= head+messageSize; in = in[head+messageSize:] {
		gathered = append(append(gathered, in[0], messageSize), in[head:head+messageSize]...)
	}
	b.clients[fd] = in
	return gathered
}
