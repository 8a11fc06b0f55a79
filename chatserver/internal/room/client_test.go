package room

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/publish"
)

const id = "0123456789abcdef"

// serve serves a room whose messages publish takes.
func serve(t *testing.T, r *Room, publish Publish) (url string) {
	t.Helper()
	server := httptest.NewServer(r.Server(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if client, err := r.Enter(w, req); err == nil {
			go client.Talk(publish)
		}
	})).Handler)
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
}

func dial(t *testing.T, url, protocol string, header ...string) *websocket.Conn {
	t.Helper()
	ws, _, err := (&websocket.Dialer{Subprotocols: []string{protocol}}).Dial(url, from("", header...).Header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	return ws
}

func send(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// partial begins a text message of size bytes and sends so many of them.
func partial(t *testing.T, ws *websocket.Conn, size, bytes int) {
	t.Helper()
	head := []byte{0x81, 0x80 | 126, byte(size >> 8), byte(size), 0, 0, 0, 0}
	if _, err := ws.NetConn().Write(append(head, strings.Repeat("x", bytes)...)); err != nil {
		t.Fatal(err)
	}
}

// closeCode reads up to the close frame.
func closeCode(ws *websocket.Conn) int {
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			closed, _ := errors.AsType[*websocket.CloseError](err)
			if closed == nil {
				return 0
			}
			return closed.Code
		}
	}
}

func published(ch chan<- chat.Message) Publish {
	return func(_ context.Context, m chat.Message, _ bool) (int64, error) {
		ch <- m
		return 7, nil
	}
}

func read(t *testing.T, ws *websocket.Conn) (e struct {
	Type, ID, Reason string
	Offset           int64
}) {
	t.Helper()
	if err := ws.ReadJSON(&e); err != nil {
		t.Fatal(err)
	}
	return e
}

// A person who has signed in has that name, whatever the client says.
func TestMessagesArePublished(t *testing.T) {
	t.Parallel()
	took := make(chan chat.Message, 10)
	url := serve(t, start(t, Limits{UserHeader: user, TrustedProxies: trusted("127.0.0.0/8")}, io.Discard), published(took))
	raw, events := dial(t, url, "", user, "Ann"), dial(t, url, chat.Protocol, user, "Ann")
	send(t, raw, "") // nobody says nothing
	send(t, raw, "hello")
	if m := <-took; m.Text != "hello" || m.Pod != "a" || m.Name != "Ann" || chat.CheckID(m.ID) != nil {
		t.Errorf("%+v", m)
	}
	send(t, events, `{"type":"message","id":"`+id+`","name":"Bob","text":"hi"}`)
	if m := <-took; m.Text != "hi" || m.Pod != "a" || m.Name != "Ann" || m.ID != id {
		t.Errorf("%+v", m)
	}
	if ack := read(t, events); ack.Type != "ack" || ack.ID != id || ack.Offset != 7 {
		t.Errorf("%+v", ack)
	}
}

// What Kafka refuses for good or does not take in time, and what does not come to its end.
func TestMessagesAreNotPublished(t *testing.T) {
	t.Parallel()
	r := start(t, Limits{}, io.Discard)
	r.messageTime = time.Second
	url := serve(t, r, func(ctx context.Context, m chat.Message, _ bool) (int64, error) {
		if strings.Contains(m.Text, "too large") {
			return 0, publish.ErrRejected
		}
		<-ctx.Done()
		return 0, ctx.Err()
	})
	large, slow, unfinished, events := dial(t, url, ""), dial(t, url, ""), dial(t, url, chat.Protocol), dial(t, url, chat.Protocol)
	send(t, large, "too large")
	send(t, slow, "slow")
	partial(t, unfinished, 5000, 100)
	for ws, code := range map[*websocket.Conn]int{large: websocket.ClosePolicyViolation, slow: websocket.CloseTryAgainLater, unfinished: websocket.CloseTryAgainLater} {
		if got := closeCode(ws); got != code {
			t.Errorf("closed with %d, want %d", got, code)
		}
	}
	send(t, events, `{"type":"message","id":"`+id+`","text":"too large"}`)
	if e := read(t, events); e.Type != "reject" || e.ID != id || e.Reason == "" {
		t.Errorf("%+v", e)
	}
}

// A client faster than its pace waits, and loses nothing: in messages, and in bytes.
func TestPace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits         Limits
		messages, each int // the burst, and then for half a second
	}{
		"messages":              {Limits{MessageRate: 40, ByteRate: 1 << 30}, 5*40 + 20, 1},
		"bytes":                 {Limits{MessageRate: 1e6, ByteRate: 20_000}, 16*20 + 10, 1000},
		"longer than the burst": {Limits{MessageRate: 1e6, ByteRate: 480}, 1, 16*480 + 240},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			took := make(chan chat.Message, c.messages)
			ws := dial(t, serve(t, start(t, c.limits, io.Discard), published(took)), "")
			begun := time.Now()
			for range c.messages {
				send(t, ws, strings.Repeat("x", c.each))
			}
			for range c.messages {
				<-took
			}
			if d := time.Since(begun); d < 400*time.Millisecond {
				t.Errorf("%d messages took %v", c.messages, d)
			}
		})
	}
}

// When the memory for unread messages is used up, the largest unfinished one is given up; others and what waits for
// Kafka are not.
func TestUnreadMemory(t *testing.T) {
	t.Parallel()
	const all = 200 << 10
	r := start(t, Limits{MessageBytes: 60000}, io.Discard)
	r.unread.free, r.messageTime = all, time.Minute
	kafka, took := make(chan struct{}), make(chan chat.Message, 10)
	url := serve(t, r, func(_ context.Context, m chat.Message, _ bool) (int64, error) {
		took <- m
		<-kafka
		return 0, nil
	})
	waits, large := dial(t, url, ""), dial(t, url, "")
	send(t, waits, strings.Repeat("w", 60000))
	<-took                          // nearly 64 KiB wait for Kafka
	partial(t, large, 60000, 50000) // nearly 64 KiB
	for free := all; free > all-127<<10; time.Sleep(time.Millisecond) {
		r.unread.mu.Lock()
		free = r.unread.free
		r.unread.mu.Unlock()
	}
	var others []*websocket.Conn
	for range 4 {
		ws := dial(t, url, "")
		partial(t, ws, 30000, 17000) // 32 KiB
		others = append(others, ws)
	}
	if code := closeCode(large); code != websocket.CloseTryAgainLater {
		t.Errorf("the largest was closed with %d", code)
	}
	close(kafka)
	for _, ws := range others {
		if _, err := ws.NetConn().Write([]byte(strings.Repeat("y", 30000-17000))); err != nil {
			t.Error(err)
		}
		if m := <-took; len(m.Text) != 30000 {
			t.Errorf("%d bytes", len(m.Text))
		}
	}
	for _, ws := range append(others, waits) {
		ws.Close()
	}
	r.Wait()
	if r.unread.free != all || len(r.unread.reading) != 0 {
		t.Errorf("%d bytes are free at the end, and %d messages are counted", r.unread.free, len(r.unread.reading))
	}
}

// A malformed event is rejected, and a client that goes on sending them is closed. What it made up comes into the answer and
// the log in part, and escaped.
func TestMalformedEvents(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r := start(t, Limits{}, &log)
	ws := dial(t, serve(t, r, published(make(chan chat.Message, 1))), chat.Protocol)
	malformed := `{"type":"\u001b[2J\u202e` + strings.Repeat("shout", 1000) + `"}`
	send(t, ws, malformed)
	read(t, ws)
	send(t, ws, `{"type":"message","id":"`+id+`","text":"well-formed, and the count starts anew"}`)
	read(t, ws)
	for range maxStrikes {
		send(t, ws, malformed)
	}
	for range maxStrikes - 1 {
		e := read(t, ws)
		if e.Type != "reject" || !strings.Contains(e.Reason, `"\x1b[2J\u202eshoutshout`) || len(e.Reason) > 200 {
			t.Fatalf("%+v", e)
		}
	}
	if code := closeCode(ws); code != websocket.ClosePolicyViolation {
		t.Errorf("closed with %d", code)
	}
	r.Wait()
	if text := log.String(); !strings.Contains(text, `type \"\\x1b[2J\\u202eshout`) || strings.ContainsAny(text, "\x1b\u202e") || len(text) > 500 {
		t.Errorf("the log is %q", text)
	}
}
