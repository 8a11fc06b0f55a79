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

// maxControl is the largest payload of a control frame in bytes (RFC 6455 section 5.5).
const maxControl = 125

// Close codes (RFC 6455 section 7.4 and the IANA registry).
const (
	CloseNormal          = 1000
	CloseProtocolError   = 1002
	CloseUnsupportedData = 1003
	CloseInvalidPayload  = 1007
	ClosePolicyViolation = 1008
	CloseTooBig          = 1009
	CloseServiceRestart  = 1012
	CloseTryAgainLater   = 1013
)

// AppendText appends a text frame to b. A server's frames are not masked (RFC 6455 section
// 5.1), so the same bytes serve every connection.
func AppendText(b, payload []byte) []byte {
	return append(appendHeader(b, finText, len(payload)), payload...)
}

func appendHeader(b []byte, finOpcode byte, length int) []byte {
	b = append(b, finOpcode)
	switch {
	case length < 126:
		return append(b, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(length))
}

func appendControl(b []byte, finOpcode byte, payload []byte) []byte {
	payload = payload[:min(len(payload), maxControl)]
	return append(appendHeader(b, finOpcode, len(payload)), payload...)
}

// appendClose appends a close frame; a reason that is too long is cut between characters.
// websocket.CloseNoStatusReceived is a frame without a code.
func appendClose(b []byte, code int, reason string) []byte {
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxControl-2)], "")
	return appendControl(b, finClose, websocket.FormatCloseMessage(code, reason))
}
