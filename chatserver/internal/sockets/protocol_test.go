package sockets_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// A protocolCase is what a client sends after the handshake, and what an echo server has to
// answer by RFC 6455: messages, pongs, and at last either nothing ("open": the connection still
// works), a close frame ("close CODE"), or the end of the stream without one ("end").
// Alternatives are separated by a bar. The cases are in the manner and the order of the Autobahn
// test suite; this server takes only text, and never fragments or compresses.
type protocolCase struct {
	name string
	send []byte
	chop int // bytes a write; 0: all at once
	want []string
}

func f(finOpcode byte, payload string) []byte { return masked(finOpcode, []byte(payload)) }

func seq(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func times(n int, b []byte) []byte { return bytes.Repeat(b, n) }

// unmasked is a frame that only a server may send.
func unmasked(finOpcode byte, payload string) []byte {
	return append([]byte{finOpcode, byte(len(payload))}, payload...)
}

// promised is the head of a text frame whose length is n, and the beginning of its payload.
func promised(n uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{opText | fin, 0x80 | 127}, n)
	return append(b, "\x00\x00\x00\x00hello"...)
}

func closing(code int, reason string) []byte {
	return masked(opClose|fin, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// fragments cuts a text message into frames with n bytes each.
func fragments(payload string, n int) (b []byte) {
	op := byte(opText)
	for ; len(payload) > n; payload = payload[n:] {
		b = append(b, f(op, payload[:n])...)
		op = 0
	}
	return append(b, f(op|fin, payload)...)
}

func protocolCases() (cases []protocolCase) {
	add := func(name string, send []byte, want ...string) {
		cases = append(cases, protocolCase{name, send, 0, want})
	}
	chopped := func(name string, chop int, send []byte, want ...string) {
		cases = append(cases, protocolCase{name, send, chop, want})
	}
	x := func(n int) string { return strings.Repeat("x", n) }

	// 1: framing
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, limit} {
		add(fmt.Sprintf("1.1 text of %d bytes", n), f(opText|fin, x(n)), "text "+x(n), "open")
	}
	chopped("1.1 text of 65536 bytes in pieces of 997", 997, f(opText|fin, x(65536)), "text "+x(65536), "open")
	for _, n := range []int{0, 125, 65536} {
		add(fmt.Sprintf("1.2 binary of %d bytes", n), f(opBin|fin, x(n)), "close 1003")
	}
	add("1.3 mask of zeros", []byte("\x81\x85\x00\x00\x00\x00hello"), "text hello", "open")
	add("1.4 length in more bytes than needed", append([]byte{opText | fin, 0x80 | 126, 0, 5, 0, 0, 0, 0}, "hello"...), "text hello|close 1002")

	// 2: pings and pongs
	add("2.2 ping with payload", f(opPing|fin, "Hello, world!"), "pong Hello, world!", "open")
	add("2.3 ping with binary payload", f(opPing|fin, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), "pong \x00\xff\xfe\xfd\xfc\xfb\x00\xff", "open")
	add("2.4 ping with 125 bytes", f(opPing|fin, x(125)), "pong "+x(125), "open")
	add("2.5 ping with 126 bytes", f(opPing|fin, x(126)), "close 1002")
	chopped("2.6 ping byte by byte", 1, f(opPing|fin, x(125)), "pong "+x(125), "open")
	add("2.7 pong that nobody asked for", f(opPong|fin, ""), "open")
	add("2.9 pong, then ping", seq(f(opPong|fin, "unasked"), f(opPing|fin, "p")), "pong p", "open")
	add("2.10 ten pings", times(10, f(opPing|fin, "p")), append(slices.Repeat([]string{"pong p"}, 10), "open")...)
	add("2.12 pong with 126 bytes", f(opPong|fin, x(126)), "close 1002")

	// 3: reserved bits, without an extension that gives them a meaning
	for rsv := byte(1); rsv < 8; rsv++ {
		add(fmt.Sprintf("3.1 reserved bits %03b, text", rsv), f(fin|rsv<<4|opText, "x"), "close 1002")
	}
	add("3.2 reserved bit after a message", seq(f(opText|fin, "ok"), f(fin|0x40|opText, "x"), f(opPing|fin, "")), "text ok", "close 1002")
	add("3.3 reserved bit in a ping", f(fin|0x20|opPing, ""), "close 1002")
	add("3.4 reserved bit in a close", f(fin|0x10|opClose, ""), "close 1002")
	add("3.5 reserved bit in a continuation", seq(f(opText, "a"), f(fin|0x40, "b")), "close 1002")

	// 4: opcodes
	for _, opcode := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		add(fmt.Sprintf("4.1 reserved opcode %d", opcode), f(fin|opcode, ""), "close 1002")
	}
	add("4.2 reserved opcode with payload after a message", seq(f(opText|fin, "ok"), f(fin|5, "x"), f(opPing|fin, "")), "text ok", "close 1002")

	// 5: fragmentation
	add("5.1 ping in two fragments", seq(f(opPing, "a"), f(fin, "b")), "close 1002")
	add("5.3 text in two fragments", seq(f(opText, "a"), f(fin, "b")), "text ab", "open")
	add("5.5 empty fragments", seq(f(opText, ""), f(0, ""), f(fin, "")), "text ", "open")
	add("5.6 ping between fragments", seq(f(opText, "a"), f(opPing|fin, "p"), f(fin, "b")), "pong p", "text ab", "open")
	chopped("5.7 ping between fragments, byte by byte", 1, seq(f(opText, "a"), f(opPing|fin, "p"), f(fin, "b")), "pong p", "text ab", "open")
	add("5.8 continuation of nothing", seq(f(fin, "x"), f(opText|fin, "y")), "close 1002")
	add("5.10 text inside a text", seq(f(opText, "a"), f(opText|fin, "b")), "close 1002")
	add("5.12 continuation after the end", seq(f(opText, "a"), f(fin, "b"), f(fin, "c")), "text ab", "close 1002")
	add("5.13 pings between five fragments", seq(f(opText, "1"), f(0, "2"), f(opPing|fin, "p"), f(0, "3"), f(0, "4"), f(opPing|fin, "q"), f(fin, "5")), "pong p", "pong q", "text 12345", "open")
	add("5.14 close between fragments", seq(f(opText, "a"), closing(1000, ""), f(fin, "b")), "close 1000")
	add("5.15 two messages at once", seq(f(opText, "a"), f(fin, "b"), f(opText|fin, "c")), "text ab", "text c", "open")

	// 6: UTF-8
	for name, s := range map[string]string{
		"two to four bytes": "é€\U0001F600", "NUL": "a\x00b", "U+FFFE and U+FFFF": "\ufffe\uffff", "U+10FFFF": "\U0010FFFF", "a byte order mark": "\ufeffx", "U+D7FF and U+E000": "\ud7ff\ue000",
	} {
		add("6.1 "+name, f(opText|fin, s), "text "+s, "open")
		add("6.2 "+name+", a byte in a fragment", fragments(s, 1), "text "+s, "open")
	}
	add("6.3 cut in a character, with a ping between", seq(f(opText, "\xe2\x82"), f(opPing|fin, ""), f(fin, "\xac")), "pong ", "text €", "open")
	for name, s := range map[string]string{
		"a continuation byte": "\x80", "a first byte without others": "a\xc3", "cut at the end": "\xf0\x9f\x98", "overlong": "\xc0\xaf", "overlong in three": "\xe0\x80\xaf",
		"a surrogate": "\xed\xa0\x80", "beyond U+10FFFF": "\xf4\x90\x80\x80", "0xFE": "\xfe", "five bytes": "\xf8\x88\x80\x80\x80", "in the middle": "κόσμε\xed\xa0\x80edited",
	} {
		add("6.4 not UTF-8: "+name, f(opText|fin, s), "close 1007")
		add("6.5 not UTF-8: "+name+", a byte in a fragment", fragments(s+"x", 1), "close 1007")
	}

	// 7: closing
	add("7.1 close", closing(1000, ""), "close 1000")
	add("7.3 close twice", seq(closing(1000, ""), closing(1001, "")), "close 1000")
	add("7.4 ping after close", seq(closing(1000, ""), f(opPing|fin, "")), "close 1000")
	add("7.5 message after close", seq(closing(1000, ""), f(opText|fin, "a")), "close 1000")
	add("7.6 garbage after close", seq(closing(1000, ""), times(100, []byte("\xff"))), "close 1000")
	add("7.7 large message, then close", seq(f(opText|fin, x(256<<10)), closing(1000, "")), "text "+x(256<<10), "close 1000")
	add("7.8 close without a code", f(opClose|fin, ""), "close 0")
	add("7.9 close with half a code", f(opClose|fin, "\x03"), "close 0")
	add("7.10 close with half a code, after messages", seq(f(opText, "a"), f(fin, "b"), f(opPing|fin, "p"), f(opClose|fin, "\x03")), "text ab", "pong p", "close 0")
	add("7.12 close with the longest reason", closing(1000, x(123)), "close 1000")
	add("7.13 close with a longer reason", closing(1000, x(124)), "close 1002")
	add("7.14 close with a reason that is not UTF-8", closing(1000, "\xce\xba\xed\xa0\x80"), "close 1002|close 1007")
	add("7.15 close in fragments", f(opClose, "\x03\xe8"), "close 1002")
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999} {
		add(fmt.Sprintf("7.16 close with %d", code), closing(code, ""), fmt.Sprint("close ", code))
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		add(fmt.Sprintf("7.17 close with %d, which nobody may send", code), closing(code, ""), "close 1002")
	}

	// 8: masks
	add("8.1 unmasked text", unmasked(opText|fin, "hello"), "close 1002")
	add("8.2 unmasked ping", unmasked(opPing|fin, "hello"), "close 1002")
	add("8.3 unmasked close", unmasked(opClose|fin, "\x03\xe8"), "close 1002")
	add("8.4 unmasked continuation", seq(f(opText, "a"), unmasked(fin, "b")), "close 1002")
	add("8.5 unmasked after masked", seq(f(opText|fin, "a"), unmasked(opText|fin, "b")), "text a", "close 1002")

	// 9: lengths
	add("9.1 a byte too long", f(opText|fin, x(limit+1)), "close 1009")
	add("9.2 a byte too long, in fragments", fragments(x(limit+1), 65536), "close 1009")
	add("9.3 promises 2^32 bytes", promised(1<<32), "close 1009")
	add("9.4 promises 2^63-1 bytes", promised(1<<63-1), "close 1009")
	add("9.5 promises 2^63 bytes", promised(1<<63), "close 1002|close 1009|end")
	add("9.7 fragments that promise 2^63 together", seq(f(opText, "a"), append([]byte{0x80}, promised(1<<63 - 1)[1:]...)), "close 1009|end")
	add("9.8 a thousand fragments", fragments(x(limit), limit/1000), "text "+x(limit), "open")
	add("9.9 a thousand messages", times(1000, f(opText|fin, "m")), append(slices.Repeat([]string{"text m"}, 1000), "open")...)
	chopped("9.10 messages in pieces that do not fit them", 7, times(50, f(opText|fin, "hello")), append(slices.Repeat([]string{"text hello"}, 50), "open")...)

	// 10: no websocket at all
	add("10.1 an HTTP request", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "close 1002")
	add("10.2 zeros", make([]byte, 1000), "close 1002")
	add("10.4 a TLS hello", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "close 1002")
	add("10.5 garbage after messages", seq(f(opText|fin, "a"), f(opText|fin, "b"), []byte("\xff\x00garbage")), "text a", "text b", "close 1002")
	return cases
}
