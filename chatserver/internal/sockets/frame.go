package sockets

import (
	"encoding/binary"
	"strings"

	"github.com/gorilla/websocket"
)

// Opcodes (RFC 6455 section 5.2) with the FIN bit: this server never fragments.
const (
	finText  = 0x80 | 0x1
	finClose = 0x80 | 0x8
	finPing  = 0x80 | 0x9
	finPong  = 0x80 | 0xa
)

// AppendText appends a text frame to b. A server's frames are not masked (RFC 6455 section 5.1), so
// the same bytes serve every connection.
func AppendText(b, payload []byte) []byte { return appendFrame(b, finText, payload) }

func appendFrame(b []byte, finOpcode byte, payload []byte) []byte {
	b = append(b, finOpcode)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// appendClose appends a close frame. A reason too long for a control frame's 125 bytes (RFC 6455
// section 5.5) is cut between characters.
func appendClose(b []byte, code int, reason string) []byte {
	reason = strings.ToValidUTF8(reason[:min(len(reason), 125-2)], "")
	return appendFrame(b, finClose, websocket.FormatCloseMessage(code, reason))
}
