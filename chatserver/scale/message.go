package scale

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"time"
)

const (
	opText = 1
	opPing = 9
	opPong = 10
	fin    = 0x80
	masked = 0x80

	// messageSize is the length of a text in bytes: a sentence, and short enough for a frame whose
	// length fits into one byte.
	messageSize = 100
	stampSize   = 3 * 8 // three numbers, of which the text has the hexadecimal digits
)

// message is the text of message n of a run: both numbers, and when it was sent.
func message(run, n int, at time.Time) []byte {
	stamp, _ := binary.Append(nil, binary.BigEndian, []int64{int64(run), int64(n), at.UnixNano()})
	text := bytes.Repeat([]byte("."), messageSize)
	hex.Encode(text, stamp)
	return text
}

// parseMessage reads what message wrote.
func parseMessage(text []byte) (run, n int, at int64, ok bool) {
	var stamp [stampSize]byte
	if len(text) != messageSize {
		return 0, 0, 0, false
	}
	if _, err := hex.Decode(stamp[:], text[:2*stampSize]); err != nil {
		return 0, 0, 0, false
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(stamp[8*i:]) }
	return int(number(0)), int(number(1)), int64(number(2)), true
}

// clientFrame makes a client's frame. Its mask is 0, which leaves the payload as it is.
func clientFrame(opcode byte, payload []byte) []byte {
	return append([]byte{fin | opcode, masked | byte(len(payload)), 0, 0, 0, 0}, payload...)
}

// nextFrame takes the first of a server's frames off b; not ok means that b has only a part of it.
// A frame of more than 125 bytes, which no pod sends here, has the opcode 0.
func nextFrame(b []byte) (opcode byte, payload, rest []byte, ok bool) {
	switch {
	case len(b) >= 2 && b[1] > 125:
		return 0, nil, nil, true
	case len(b) < 2 || len(b) < 2+int(b[1]):
		return 0, nil, b, false
	}
	end := 2 + int(b[1])
	return b[0] & 0x0f, b[2:end], b[end:], true
}
