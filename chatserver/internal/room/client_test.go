package room

import (
	"context"
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

func dial(t *testing.T, url, protocol string, header http.Header) *websocket.Conn {
	t.Helper()
	ws, _, err := (&websocket.Dialer{Subprotocols: []string{protocol}}).Dial(url, header)
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

// wantEvent reads an event, and checks what it begins and ends with.
func wantEvent(t *testing.T, ws *websocket.Conn, begin, end string) {
	t.Helper()
	_, event, err := ws.ReadMessage()
	if text := string(event); err != nil || !strings.HasPrefix(text, begin) || !strings.HasSuffix(text, end) || len(text) > 250 {
		t.Errorf("%s, %v, want %s...%s", text, err, begin, end)
	}
}

// closed checks that the next that comes is a close frame with this code.
func closed(t *testing.T, ws *websocket.Conn, code int) {
	t.Helper()
	if _, text, err := ws.ReadMessage(); !websocket.IsCloseError(err, code) {
		t.Errorf("%.100q, %v, want the close code %d", text, err, code)
	}
}

// Kafka takes a message, refuses it for good, or is slow; or a message has no end. Who has signed in has that name.
func TestMessages(t *testing.T) {
	t.Parallel()
	r := start(t, behindProxy(), io.Discard)
	r.messageTime = time.Second
	took := make(chan chat.Message, 10)
	url := serve(t, r, func(ctx context.Context, m chat.Message, _ bool) (int64, error) {
		switch m.Text {
		case "too large":
			return 0, publish.ErrRejected
		case "slow":
			<-ctx.Done()
			return 0, ctx.Err()
		}
		took <- m
		return 7, nil
	})
	join := func(protocol string) *websocket.Conn { return dial(t, url, protocol, http.Header{user: {"Ann"}}) }
	slow, unfinished, raw, events := join(""), join(chat.Protocol), join(""), join(chat.Protocol)
	send(t, slow, "slow")
	partial(t, unfinished, 5000, 100)
	send(t, raw, "") // nobody says nothing
	send(t, raw, "hello")
	if m := <-took; m.Text != "hello" || m.Pod != "a" || m.Name != "Ann" || chat.CheckID(m.ID) != nil {
		t.Errorf("%+v", m)
	}
	send(t, events, `{"type":"message","id":"`+id+`","name":"Bob","text":"hi"}`)
	if m := <-took; m.Text != "hi" || m.Pod != "a" || m.Name != "Ann" || m.ID != id {
		t.Errorf("%+v", m)
	}
	wantEvent(t, events, `{"type":"ack","id":"`+id+`"`, `,"offset":7}`)
	send(t, events, `{"type":"message","id":"`+id+`","text":"too large"}`)
	wantEvent(t, events, `{"type":"reject","id":"`+id+`"`, `"not taken by Kafka"}`)
	send(t, raw, "too large")
	closed(t, raw, websocket.ClosePolicyViolation)
	closed(t, slow, websocket.CloseTryAgainLater)
	closed(t, unfinished, websocket.CloseTryAgainLater)
}

// A client faster than its pace, in messages or in bytes, waits and loses nothing. A message may be longer than the burst.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limits         Limits
		messages, each int // the burst, and then for half a second
	}{
		{Limits{MessageRate: 40}, 5*40 + 20, 1},
		{Limits{ByteRate: 480}, 1, 16*480 + 240},
	} {
		took := make(chan chat.Message, c.messages)
		ws := dial(t, serve(t, start(t, c.limits, io.Discard), func(_ context.Context, m chat.Message, _ bool) (int64, error) {
			took <- m
			return 0, nil
		}), "", nil)
		begun := time.Now()
		for range c.messages {
			send(t, ws, strings.Repeat("x", c.each))
		}
		for range c.messages {
			<-took
		}
		if d := time.Since(begun); d < 400*time.Millisecond {
			t.Errorf("with %+v, %d messages took %v", c.limits, c.messages, d)
		}
	}
}

// When the memory for messages is used up, the largest unfinished one is given up; others and what waits for Kafka are not.
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
	waits, large := dial(t, url, "", nil), dial(t, url, "", nil)
	send(t, waits, strings.Repeat("w", 60000))
	<-took                          // nearly 64 KiB wait for Kafka
	partial(t, large, 60000, 50000) // nearly 64 KiB
	for free := all; free > all-127<<10; time.Sleep(time.Millisecond) {
		r.unread.mu.Lock()
		free = r.unread.free
		r.unread.mu.Unlock()
	}
	var others [4]*websocket.Conn
	for i := range others {
		others[i] = dial(t, url, "", nil)
		partial(t, others[i], 30000, 17000) // 32 KiB
	}
	closed(t, large, websocket.CloseTryAgainLater)
	close(kafka)
	for _, ws := range others {
		io.WriteString(ws.NetConn(), strings.Repeat("y", 30000-17000))
		if m := <-took; len(m.Text) != 30000 {
			t.Errorf("%d bytes", len(m.Text))
		}
		ws.Close()
	}
	waits.Close()
	r.Wait()
	if r.unread.free != all || len(r.unread.reading) != 0 {
		t.Errorf("%d bytes are free at the end, and %d messages are counted", r.unread.free, len(r.unread.reading))
	}
}

// Ten malformed events in a row close a client. What it made up comes into the answers and the log in part, and escaped.
func TestMalformedEvents(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r := start(t, Limits{}, &log)
	ws := dial(t, serve(t, r, func(context.Context, chat.Message, bool) (int64, error) { return 0, nil }), chat.Protocol, nil)
	malformed := `{"type":"\u001b[2J\u202e` + strings.Repeat("shout", 1000) + `"}`
	const rejected = `{"type":"reject","reason":"unknown event type \"\\x1b[2J\\u202eshoutshout`
	send(t, ws, malformed)
	wantEvent(t, ws, rejected, "}")
	send(t, ws, `{"type":"message","id":"`+id+`","text":"well-formed, and the count starts anew"}`)
	wantEvent(t, ws, `{"type":"ack"`, "}")
	for range maxStrikes - 1 {
		send(t, ws, malformed)
		wantEvent(t, ws, rejected, "}")
	}
	send(t, ws, malformed)
	closed(t, ws, websocket.ClosePolicyViolation)
	r.Wait()
	if said := log.String(); !strings.Contains(said, `"\\x1b[2J\\u202eshout`) || strings.ContainsAny(said, "\x1b\u202e") || len(said) > 500 {
		t.Errorf("the log is %q", said)
	}
}
