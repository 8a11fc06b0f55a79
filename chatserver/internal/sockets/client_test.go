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

// A client speaks websocket by itself, so that it can be as strict, and as wrong, as a test
// wants. What it receives must be whole, unmasked and unfragmented frames with known opcodes.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	head http.Header
}

// notices asks for the subprotocol whose clients get notices.
const notices = "Sec-WebSocket-Protocol: notices"

// request returns a handshake's request; accepts is the answer to its key.
func request(path string, header ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + strings.Join(append(header, ""), "\r\n") + "\r\n"
}

const accepts = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

// dial makes a websocket with a receive buffer of so many bytes, 0 for the system's choice.
func (s *server) dial(path string, rcvbuf int, header ...string) *client {
	s.t.Helper()
	c, err := dial(s.t, s.http.Listener.Addr().String(), path, rcvbuf, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func dial(t testing.TB, addr, path string, rcvbuf int, header ...string) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	if rcvbuf > 0 {
		conn.(*net.TCPConn).SetReadBuffer(rcvbuf)
	}
	c := &client{t: t, conn: conn, r: bufio.NewReaderSize(conn, 4096)}
	io.WriteString(conn, request(path, header...))
	conn.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, err
	}
	if c.head = response.Header; response.StatusCode != http.StatusSwitchingProtocols || c.head.Get("Sec-WebSocket-Accept") != accepts {
		return nil, fmt.Errorf("handshake answered with %v", response)
	}
	return c, nil
}

// join makes a websocket that is live.
func (s *server) join(rcvbuf int, header ...string) *client {
	s.t.Helper()
	c := s.dial("/", rcvbuf, header...)
	c.want("hello", "live")
	return c
}

const (
	opText  = 1
	opBin   = 2
	opClose = 8
	opPing  = 9
	opPong  = 10
	fin     = 0x80
)

// frame reads the next frame, and checks that it is one that this server may send.
func (c *client) frame() (opcode int, payload []byte, err error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	var head [10]byte
	if _, err := io.ReadFull(c.r, head[:2]); err != nil {
		return 0, nil, err
	}
	opcode = int(head[0] &^ fin)
	n, least := uint64(head[1]), uint64(0)
	if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
		if _, err := io.ReadFull(c.r, head[10-more:]); err != nil {
			return 0, nil, err
		}
		clear(head[2 : 10-more])
		n, least = binary.BigEndian.Uint64(head[2:]), map[int]uint64{2: 126, 8: 1 << 16}[more]
	}
	control := opcode == opClose || opcode == opPing || opcode == opPong
	if head[0]&fin == 0 || opcode != opText && !control || control && n > 125 || n < least || n > 1<<26 {
		return 0, nil, fmt.Errorf("not a frame of this server's: % x", head)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return opcode, payload, err
}

// next returns the next text message; control frames before it are dropped.
func (c *client) next() string {
	c.t.Helper()
	m, err := c.tryNext()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *client) tryNext() (string, error) {
	for {
		opcode, payload, err := c.frame()
		switch {
		case err != nil:
			return "", err
		case opcode == opText:
			return string(payload), nil
		case opcode == opClose:
			return "", closeError(payload)
		}
	}
}

func (c *client) want(messages ...string) {
	c.t.Helper()
	for _, want := range messages {
		if got := c.next(); got != want {
			c.t.Fatalf("got %.80q, want %.80q", got, want)
		}
	}
}

// A closed is what a close frame said; code 0 for nothing.
type closed struct {
	code   int
	reason string
}

func (e closed) Error() string { return fmt.Sprintf("closed with %d %q", e.code, e.reason) }

func closeError(payload []byte) closed {
	if len(payload) < 2 {
		return closed{}
	}
	return closed{int(binary.BigEndian.Uint16(payload)), string(payload[2:])}
}

// wantClose reads to the end of the stream, and wants a close frame with the code before it and
// nothing after it. Messages before it are dropped.
func (c *client) wantClose(code int) closed {
	c.t.Helper()
	var err error
	for err == nil {
		_, err = c.tryNext()
	}
	end, ok := err.(closed)
	if !ok || end.code != code {
		c.t.Fatalf("the connection ended with %v, want close code %d", err, code)
	}
	c.send(opClose|fin, []byte{3, 232})
	c.wantEnd()
	return end
}

// wantEnd wants the end of the stream, and nothing before it.
func (c *client) wantEnd() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := io.Copy(io.Discard, c.r); n > 0 || err != nil && !isReset(err) {
		c.t.Fatalf("%d bytes and %v where the stream should end", n, err)
	}
}

func isReset(err error) bool {
	var timeout net.Error
	return !(errors.As(err, &timeout) && timeout.Timeout())
}

// send sends a frame; errors are for the reading side to notice.
func (c *client) send(finOpcode byte, payload []byte) error {
	return c.write(masked(finOpcode, payload))
}

func (c *client) say(message string) { c.send(opText|fin, []byte(message)) }

func (c *client) write(b []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.conn.Write(b)
	return err
}

// masked returns a client's frame.
func masked(finOpcode byte, payload []byte) []byte {
	b := []byte{finOpcode}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := []byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, mask...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}
