package sockets_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A client speaks websocket by itself, so that it can be as strict, and as wrong, as a test wants.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// notices asks for the subprotocol whose clients get notices.
const notices = "Sec-WebSocket-Protocol: notices"

const accepts = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // the answer to the key of a request

func request(path string, header ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + strings.Join(append(header, ""), "\r\n") + "\r\n"
}

// dial makes a websocket with a receive buffer of so many bytes, 0 for the system's choice.
func (s *server) dial(path string, rcvbuf int, header ...string) *client {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if rcvbuf > 0 {
		conn.(*net.TCPConn).SetReadBuffer(rcvbuf)
	}
	c := &client{t: s.t, conn: conn, r: bufio.NewReaderSize(conn, 4096)}
	io.WriteString(conn, request(path, header...))
	conn.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(c.r, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Accept") != accepts {
		s.t.Fatalf("handshake answered with %v, %v", response, err)
	}
	return c
}

// join makes a websocket that is live.
func (s *server) join(rcvbuf int, header ...string) *client {
	s.t.Helper()
	c := s.dial("/", rcvbuf, header...)
	c.want("hello", "live")
	return c
}

const opText, opBin, opClose, opPing, opPong, fin = 1, 2, 8, 9, 10, 0x80

// frame reads the next frame, and checks that it is one that this server may send.
func (c *client) frame() (opcode byte, payload []byte, err error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, 8)
	if _, err := io.ReadFull(c.r, head[6:]); err != nil {
		return 0, nil, err
	}
	opcode, n, least := head[6]&^fin, uint64(head[7]), uint64(0)
	control := opcode == opClose || opcode == opPing || opcode == opPong
	bad := head[6]&fin == 0 || opcode != opText && !control || control && n > 125
	if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
		clear(head)
		if _, err := io.ReadFull(c.r, head[8-more:]); err != nil {
			return 0, nil, err
		}
		n, least = binary.BigEndian.Uint64(head), map[int]uint64{2: 126, 8: 1 << 16}[more]
	}
	if bad || n < least || n > 1<<26 {
		return 0, nil, fmt.Errorf("not a frame of this server's: opcode %d, %d bytes", opcode, n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return opcode, payload, err
}

// event returns what comes next: "text MESSAGE", "ping", "pong PAYLOAD", "close CODE REASON" with code
// 0 for none, "end" for the end of the stream between frames, or what is wrong.
func (c *client) event() string {
	opcode, payload, err := c.frame()
	var broken *net.OpError
	switch {
	case err == io.EOF, errors.As(err, &broken) && !broken.Timeout():
		return "end"
	case err != nil:
		return err.Error()
	case opcode == opText:
		return "text " + string(payload)
	case opcode == opPing:
		return "ping"
	case opcode == opPong:
		return "pong " + string(payload)
	case len(payload) < 2:
		return "close 0 "
	}
	return fmt.Sprintf("close %d %s", binary.BigEndian.Uint16(payload), payload[2:])
}

// next returns the next event that is no ping and no pong.
func (c *client) next() string {
	for {
		if e := c.event(); e != "ping" && !strings.HasPrefix(e, "pong ") {
			return e
		}
	}
}

// want wants messages, with any pings and pongs between them.
func (c *client) want(messages ...string) {
	c.t.Helper()
	for _, want := range messages {
		if got := c.next(); got != "text "+want {
			c.t.Fatalf("got %.80q, want %.80q", got, want)
		}
	}
}

// wantEvent wants this event next. Of a close frame the code counts, and the stream ends after it.
func (c *client) wantEvent(want string) {
	c.t.Helper()
	got := c.event()
	if strings.HasPrefix(got, "close ") {
		got = strings.Join(strings.Fields(got)[:2], " ")
		c.wantEnd()
	}
	if got != want {
		c.t.Fatalf("got %.80q, want %.80q", got, want)
	}
}

// skipTo wants a message after any others.
func (c *client) skipTo(message string) {
	c.t.Helper()
	for e := c.next(); e != "text "+message; e = c.next() {
		if !strings.HasPrefix(e, "text ") {
			c.t.Fatalf("got %.80q, want %.80q", e, message)
		}
	}
}

// skipAll returns the first event that is no message.
func (c *client) skipAll() (event string) {
	for event = c.next(); strings.HasPrefix(event, "text "); event = c.next() {
	}
	return event
}

// wantClose wants a close frame with the code after any messages, and returns the frame's reason.
func (c *client) wantClose(code int) (reason string) {
	c.t.Helper()
	last := c.skipAll()
	reason, ok := strings.CutPrefix(last, fmt.Sprintf("close %d ", code))
	if !ok {
		c.t.Fatalf("the connection ended with %.80q, want close code %d", last, code)
	}
	c.send(opClose|fin, "\x03\xe8")
	c.wantEnd()
	return reason
}

func (c *client) wantEnd() {
	c.t.Helper()
	if got := c.event(); got != "end" {
		c.t.Fatalf("got %.80q where the stream should end", got)
	}
}

func (c *client) send(finOpcode byte, payload string) error { return c.write(f(finOpcode, payload)) }

func (c *client) say(message string) { c.send(opText|fin, message) }

func (c *client) write(frames string) error {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(c.conn, frames)
	return err
}

// f is a client's frame.
func f(finOpcode byte, payload string) string {
	b := []byte{finOpcode}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	const mask = "\x12\x34\x56\x78"
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}
