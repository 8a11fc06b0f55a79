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

// dial connects over TCP with a receive buffer of so many bytes, 0 for the system's choice.
func (s *server) dial(path string, rcvbuf int, header ...string) *client {
	s.t.Helper()
	conn := s.connect(rcvbuf)
	return handshake(s.t, conn, path, header...)
}

func (s *server) connect(rcvbuf int) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	if rcvbuf > 0 {
		conn.(*net.TCPConn).SetReadBuffer(rcvbuf)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// The headers of a handshake, and the answer to its key.
const (
	keyHeader = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	accepts   = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	headers   = "Host: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + keyHeader
	// notices asks for the subprotocol whose clients get notices.
	notices = "Sec-WebSocket-Protocol: notices"
)

// request returns a handshake's request.
func request(path string, header ...string) string {
	return "GET " + path + " HTTP/1.1\r\n" + headers + strings.Join(append(header, ""), "\r\n") + "\r\n"
}

func handshake(t testing.TB, conn net.Conn, path string, header ...string) *client {
	t.Helper()
	c := &client{t: t, conn: conn, r: bufio.NewReaderSize(conn, 4096)}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request(path, header...)); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Accept") != accepts {
		t.Fatalf("handshake answered with %v", response)
	}
	conn.SetDeadline(time.Time{})
	c.head = response.Header
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
	var head [10]byte
	if _, err := io.ReadFull(c.r, head[:2]); err != nil {
		return 0, nil, err
	}
	opcode = int(head[0] &^ fin)
	n := uint64(head[1])
	switch n {
	case 126:
		if _, err := io.ReadFull(c.r, head[2:4]); err != nil {
			return 0, nil, err
		}
		if n = uint64(binary.BigEndian.Uint16(head[2:])); n < 126 {
			return 0, nil, fmt.Errorf("length %d in two bytes", n)
		}
	case 127:
		if _, err := io.ReadFull(c.r, head[2:10]); err != nil {
			return 0, nil, err
		}
		if n = binary.BigEndian.Uint64(head[2:]); n < 1<<16 || n > 1<<26 {
			return 0, nil, fmt.Errorf("length %d in eight bytes", n)
		}
	}
	control := opcode == opClose || opcode == opPing || opcode == opPong
	if head[0]&fin == 0 || opcode != opText && !control || head[1]&0x80 != 0 || control && n > 125 {
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
	c.conn.SetReadDeadline(time.Now().Add(patience))
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

func closeError(payload []byte) error {
	if len(payload) < 2 {
		return closed{}
	}
	return closed{int(binary.BigEndian.Uint16(payload)), string(payload[2:])}
}

// wantClose reads to the end of the stream, and wants a close frame with the code before it and
// nothing after it. Messages before it are dropped.
func (c *client) wantClose(code int) closed {
	c.t.Helper()
	for {
		_, err := c.tryNext()
		var end closed
		switch {
		case err == nil:
			continue
		case !errors.As(err, &end) || end.code != code:
			c.t.Fatalf("the connection ended with %v, want close code %d", err, code)
		}
		c.send(opClose|fin, []byte{3, 232})
		c.wantEnd()
		return end
	}
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
func (c *client) send(finOpcode byte, payload []byte) {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	c.conn.Write(masked(finOpcode, payload))
}

func (c *client) say(message string) { c.send(opText|fin, []byte(message)) }

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
