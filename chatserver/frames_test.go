package main

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/record"
)

// All clients share the memory of a message, also those that are slow, and those that come when it is
// about to be let go. Each message carries a checksum: nobody ever sees one that does not match.
func TestSharedFramesNeverChange(t *testing.T) {
	t.Parallel()
	a := startPod(t, map[string]string{"LOG_BYTES": "65536"}).waitReady() // so that memory is let go all the time
	done := make(chan struct{})
	var seen atomic.Int64
	check := func(text string) {
		sum, rest, _ := strings.Cut(text, " ")
		if sum != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(rest))) {
			t.Errorf("a message of %d bytes does not match its checksum: %.60q", len(text), text)
		}
		seen.Add(1)
	}
	// read takes messages until the test is done, or the client has fallen behind.
	read := func(ws *websocket.Conn, chat, slow bool) {
		for range 200 {
			select {
			case <-done:
				return
			default:
			}
			ws.SetReadDeadline(time.Now().Add(patience))
			_, b, err := ws.ReadMessage()
			if err != nil {
				return
			}
			if !chat {
				check(string(b))
			} else if e := (event{}); json.Unmarshal(b, &e) != nil {
				t.Errorf("not an event: %.60q", b)
			} else if e.Type == "message" {
				check(e.Text)
			}
			if slow {
				time.Sleep(2 * time.Millisecond)
			}
		}
	}
	var readers sync.WaitGroup
	for i := range 24 {
		chat, slow := i%2 == 0, i%3 == 0
		dialer := websocket.Dialer{HandshakeTimeout: patience}
		if chat {
			dialer.Subprotocols = []string{record.Protocol}
		}
		readers.Go(func() {
			for { // comes back again and again, into the middle
				select {
				case <-done:
					return
				default:
				}
				ws, _, err := dialer.Dial("ws"+strings.TrimPrefix(a.url, "http")+"/ws?last=10000", nil)
				if err != nil {
					t.Error(err)
					return
				}
				read(ws, chat, slow)
				ws.Close()
			}
		})
	}
	var senders sync.WaitGroup
	for i := range 4 {
		c := a.raw("")
		go func() { // so that what it gets does not fill its socket
			for {
				if _, _, err := c.ws.ReadMessage(); err != nil {
					return
				}
			}
		}()
		random := rand.New(rand.NewPCG(1, uint64(i)))
		senders.Go(func() {
			for range 500 {
				rest := strings.Repeat(string(rune('a'+random.IntN(26))), 1+random.IntN(1<<random.IntN(13)))
				if err := c.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "%08x %s", crc32.ChecksumIEEE([]byte(rest)), rest)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	waitFor(t, "enough messages to be seen", func() bool { return seen.Load() > 5000 })
	close(done)
	a.raw("").send("00000000 ") // wakes those who wait for a message
	readers.Wait()
}
