package sockets_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// A protocolCase is what a client sends after the handshake, and what an echo server has to
// answer by RFC 6455: messages, pongs, and at last either nothing ("open": the connection still
// works), a close frame ("close CODE"), or the end of the stream without one ("end").
// Alternatives are separated by a bar. The cases are in the order of the Autobahn test suite, one of
// each kind; this server takes only text, and never fragments or compresses.
type protocolCase struct {
	name, send string
	want       []string
}

// promised is the head of a text frame whose length is n, and the beginning of its payload.
func promised(n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{opText | fin, 0x80 | 127}, n)) + "\x00\x00\x00\x00hello"
}

func closing(code int, reason string) string {
	return f(opClose|fin, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// fragments cuts a text message into frames with n bytes each.
func fragments(payload string, n int) (send string) {
	op := byte(opText)
	for ; len(payload) > n; payload = payload[n:] {
		send += f(op, payload[:n])
		op = 0
	}
	return send + f(op|fin, payload)
}

func protocolCases() (cases []protocolCase) {
	add := func(name, send string, want ...string) { cases = append(cases, protocolCase{name, send, want}) }
	x := func(n int) string { return strings.Repeat("x", n) }

	// framing
	for _, n := range []int{0, 125, 126, 65535, 65536, limit} {
		add(fmt.Sprintf("text of %d bytes", n), f(opText|fin, x(n)), "text "+x(n), "open")
	}
	add("binary", f(opBin|fin, x(65536)), "close 1003")
	add("mask of zeros", "\x81\x85\x00\x00\x00\x00hello", "text hello", "open")

	// pings and pongs
	add("ping with 125 bytes", f(opPing|fin, "\x00\xff"+x(123)), "pong \x00\xff"+x(123), "open")
	add("ping with 126 bytes", f(opPing|fin, x(126)), "close 1002")
	add("pong, then pings", f(opPong|fin, "unasked")+f(opPing|fin, "p")+f(opPing|fin, "q"), "pong p", "pong q", "open")

	// reserved bits and opcodes, without an extension that gives them a meaning
	for rsv := byte(1); rsv < 8; rsv++ {
		add(fmt.Sprintf("reserved bits %03b", rsv), f(opText|fin, "ok")+f(fin|rsv<<4|opText, "x")+f(opPing|fin, ""), "text ok", "close 1002")
	}
	for _, opcode := range []byte{3, 7, 11, 15} {
		add(fmt.Sprintf("reserved opcode %d", opcode), f(fin|opcode, ""), "close 1002")
	}

	// fragmentation
	add("ping in two fragments", f(opPing, "a")+f(fin, "b"), "close 1002")
	add("empty fragments", f(opText, "")+f(0, "")+f(fin, ""), "text ", "open")
	add("ping between fragments", f(opText, "a")+f(opPing|fin, "p")+f(0, "b")+f(fin, "c"), "pong p", "text abc", "open")
	add("continuation after the end", f(opText, "a")+f(fin, "b")+f(fin, "c"), "text ab", "close 1002")
	add("text inside a text", f(opText, "a")+f(opText|fin, "b"), "close 1002")
	add("close between fragments", f(opText, "a")+closing(1000, "")+f(fin, "b"), "close 1000")

	// UTF-8
	const good = "é€\U0001F600\x00\ufffe\U0010FFFF\ufeff\ud7ff"
	add("UTF-8", f(opText|fin, good), "text "+good, "open")
	add("UTF-8, a byte in a fragment", fragments(good, 1), "text "+good, "open")
	for name, s := range map[string]string{"cut at the end": "\xf0\x9f\x98", "overlong": "\xc0\xaf", "a surrogate": "κ\xed\xa0\x80x"} {
		add("not UTF-8: "+name, f(opText|fin, s), "close 1007")
		add("not UTF-8: "+name+", a byte in a fragment", fragments(s, 1), "close 1007")
	}

	// closing
	add("close twice", closing(1000, "")+closing(1001, ""), "close 1000")
	add("garbage after close", closing(1000, "")+x(100), "close 1000")
	add("large message, then close", f(opText|fin, x(256<<10))+closing(1000, ""), "text "+x(256<<10), "close 1000")
	add("close without a code", f(opClose|fin, ""), "close 0")
	add("close with half a code, after a ping", f(opPing|fin, "p")+f(opClose|fin, "\x03"), "pong p", "close 0")
	add("close with the longest reason", closing(1000, x(123)), "close 1000")
	add("close with a longer reason", closing(1000, x(124)), "close 1002")
	add("close with a reason that is not UTF-8", closing(1000, "\xed\xa0\x80"), "close 1002|close 1007")
	for _, code := range []int{1001, 1007, 1012, 3000, 4999} {
		add(fmt.Sprintf("close with %d", code), closing(code, ""), fmt.Sprint("close ", code))
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535} {
		add(fmt.Sprintf("close with %d, which nobody may send", code), closing(code, ""), "close 1002")
	}

	// masks: a frame without one is a server's
	for _, frame := range []string{"\x81\x05hello", "\x89\x05hello", "\x88\x02\x03\xe8"} {
		add(fmt.Sprintf("%x unmasked", frame), f(opText|fin, "a")+frame, "text a", "close 1002")
	}

	// lengths
	add("a byte too long", f(opText|fin, x(limit+1)), "close 1009")
	add("a byte too long, in fragments", fragments(x(limit+1), 65536), "close 1009")
	add("promises 2^63-1 bytes", promised(1<<63-1), "close 1009")
	add("promises 2^63 bytes", promised(1<<63), "close 1002|close 1009|end")
	add("fragments that promise 2^63 together", f(opText, "a")+"\x80"+promised(1<<63 - 1)[1:], "close 1009|end")
	add("hundred fragments", fragments(x(limit), limit/100), "text "+x(limit), "open")
	add("a thousand messages", strings.Repeat(f(opText|fin, "m"), 1000), append(slices.Repeat([]string{"text m"}, 1000), "open")...)

	// no websocket at all
	add("an HTTP request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "close 1002")
	add("garbage after messages", f(opText|fin, "a")+"\xff\x00garbage", "text a", "close 1002")
	return cases
}
