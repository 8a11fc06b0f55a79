package sockets

import "encoding/binary"

// A scanner follows the frames that gorilla reads, for the one fault that gorilla neither rejects
// nor tells: a close frame whose body is a single byte, where a close code has two (RFC 6455
// section 5.5.1).
type scanner struct {
	head [10]byte // of the frame that comes, without the mask
	n    int      // bytes of head that have come
	skip uint64   // bytes of mask and payload that are yet to come

	closed   bool // a close frame has begun; what follows it does not matter
	halfCode bool // it is one with half a close code
}

func (s *scanner) scan(b []byte) {
	for len(b) > 0 && !s.closed {
		if s.skip > 0 {
			n := min(s.skip, uint64(len(b)))
			s.skip -= n
			b = b[n:]
			continue
		}
		s.head[s.n] = b[0]
		s.n++
		b = b[1:]
		length := uint64(s.head[1] & 0x7f)
		switch {
		case s.n < 2, length == 126 && s.n < 4, length == 127 && s.n < 10:
			continue // the head is not complete
		case length == 126:
			length = uint64(binary.BigEndian.Uint16(s.head[2:]))
		case length == 127:
			length = binary.BigEndian.Uint64(s.head[2:])
		}
		s.closed = s.head[0] == finClose
		s.halfCode = s.closed && length == 1
		s.skip = maskSize + length
		s.n = 0
	}
}

const maskSize = 4 // bytes; all frames of clients are masked
