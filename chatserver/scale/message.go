package scale

import (
	"encoding/binary"
	"encoding/hex"
	"time"
)

const (
	// messageSize is the length of a text in bytes: a sentence, and short enough for a frame whose
	// length fits into one byte.
	messageSize = 100
	partSize    = 16 // hexadecimal digits of each of the three numbers at its beginning
)

const (
	opText = 1
	opPing = 9
	opPong = 10
	fin    = 0x80
	masked = 0x80
)

// appendMessage appends the text of message n of a run: both numbers, and when it was sent.
func appendMessage(b []byte, run, n int, at time.Time) []byte {
	var parts [3 * 8]byte
	binary.BigEndian.PutUint64(parts[0:], uint64(run))
	binary.BigEndian.PutUint64(parts[8:], uint64(n))
	binary.BigEndian.PutUint64(parts[16:], uint64(at.UnixNano()))
	b = hex.AppendEncode(b, parts[:])
	for range messageSize - 3*partSize {
		b = append(b, '.')
	}
	return b
}

// parseMessage reads what appendMessage wrote.
func parseMessage(text []byte) (run, n int, at int64, ok bool) {
	var parts [3 * 8]byte
	if len(text) != messageSize {
		return 0, 0, 0, false
	}
	if _, err := hex.Decode(parts[:], text[:3*partSize]); err != nil {
		return 0, 0, 0, false
	}
	return int(binary.BigEndian.Uint64(parts[0:])), int(binary.BigEndian.Uint64(parts[8:])), int64(binary.BigEndian.Uint64(parts[16:])), true
}

// appendFrame appends a client's frame. Its mask is 0, which leaves the payload as it is.
func appendFrame(b []byte, opcode byte, payload []byte) []byte {
	b = append(b, fin|opcode, masked|byte(len(payload)), 0, 0, 0, 0)
	return append(b, payload...)
}

// nextFrame takes the first of a server's frames off b; not ok means that b has only a part of it.
// A frame that no chat server sends (64 KiB and more) has the opcode 0.
func nextFrame(b []byte) (opcode byte, payload, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, b, false
	}
	head, length := 2, int(b[1])
	switch length {
	case 126:
		if len(b) < 4 {
			return 0, nil, b, false
		}
		head, length = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		return 0, nil, nil, true
	}
	if len(b) < head+length {
		return 0, nil, b, false
	}
	return b[0] & 0x0f, b[head : head+length], b[head+length:], true
}
