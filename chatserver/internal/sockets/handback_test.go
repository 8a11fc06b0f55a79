package sockets

import (
	"io"
	"net"
	"testing"
	"time"

	"kafkachat/chatserver/internal/framelog"
)

// A message comes after the solo goroutine has looked for the last time, and before the loop has
// the connection back. That moment is too short to be met from outside, so the loop's steps are
// taken here one by one.
func TestMessageDuringHandBack(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()

	log := framelog.New(1<<20, 1, 0)
	l := NewLoop(log)
	c := &Conn{loop: l, index: -1, wake: make(chan struct{}, 1), raw: rawConn(near), sock: &sock{Conn: near}}
	if c.raw == nil {
		return // here a connection is never with the loop
	}
	c.place = func(*framelog.Log) (Placement, bool) { return Placement{}, true }
	l.attend(c)
	l.lookAround()
	c.solo = true // and its goroutine has just seen that there is nothing to write
	frame := AppendText(nil, []byte("now"))
	log.Append(framelog.Entry{}, frame)
	l.lookAround()
	l.pass()
	c.giveBack()
	l.lookAround()

	got := make([]byte, len(frame))
	peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(peer, got); err != nil || string(got) != string(frame) {
		t.Errorf("got %q, %v", got, err)
	}
}
