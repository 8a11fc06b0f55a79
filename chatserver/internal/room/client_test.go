package room

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
)

// serve serves a room whose messages publish takes.
func serve(t *testing.T, r *Room, publish Publish) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if client, err := r.Enter(w, req); err == nil {
			go client.Talk(publish)
		}
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
}

func dial(t *testing.T, url string, protocols ...string) *websocket.Conn {
	t.Helper()
	ws, _, err := (&websocket.Dialer{Subprotocols: protocols}).Dial(url, http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	return ws
}

// paced are limits that nobody reaches.
var paced = Limits{MessageRate: 1e6, ByteRate: 1 << 30}

func published(ch chan<- chat.Message) Publish {
	return func(_ context.Context, m chat.Message, _ bool) (int64, error) {
		ch <- m
		return 7, nil
	}
}

func TestMessagesArePublished(t *testing.T) {
	t.Parallel()
	took := make(chan chat.Message, 10)
	url := serve(t, start(t, paced, io.Discard), published(took))
	raw := dial(t, url)
	raw.WriteMessage(websocket.TextMessage, nil) // nobody says nothing
	raw.WriteMessage(websocket.TextMessage, []byte("hello"))
	if m := <-took; m.Text != "hello" || m.Pod != "a" || m.Name != "" || chat.CheckID(m.ID) != nil {
		t.Errorf("%+v", m)
	}
	events := dial(t, url, chat.Protocol)
	const id = "0123456789abcdef"
	events.WriteMessage(websocket.TextMessage, []byte(`{"type":"message","id":"`+id+`","name":"Ann","text":"hi"}`))
	if m := <-took; m.Text != "hi" || m.Pod != "a" || m.Name != "Ann" || m.ID != id {
		t.Errorf("%+v", m)
	}
	var ack struct {
		Type, ID string
		Offset   int64
	}
	if err := events.ReadJSON(&ack); err != nil || ack.Type != "ack" || ack.ID != id || ack.Offset != 7 {
		t.Errorf("%+v, %v", ack, err)
	}
}

// Whoever has signed in speaks under that name, whatever the client says.
func TestSignedInName(t *testing.T) {
	t.Parallel()
	limits := paced
	limits.UserHeader, limits.TrustedProxies = "X-User", proxies(t, "127.0.0.0/8,::1")
	took := make(chan chat.Message, 10)
	url := serve(t, start(t, limits, io.Discard), published(took))
	if _, response, err := websocket.DefaultDialer.Dial(url, nil); err == nil || response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a name: %v", err)
	}
	for _, protocol := range []string{"", chat.Protocol} {
		ws, _, err := (&websocket.Dialer{Subprotocols: []string{protocol}}).Dial(url, http.Header{"X-User": {"Ann"}})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"message","id":"0123456789abcdef","name":"Bob","text":"hi"}`))
		if m := <-took; m.Name != "Ann" {
			t.Errorf("protocol %q: %+v", protocol, m)
		}
	}
}

// A client faster than its pace waits, and loses nothing: in messages, and in bytes.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		limits         Limits
		messages, each int // the burst, and then for half a second
	}{
		{"messages", Limits{MessageRate: 40, ByteRate: 1 << 30}, 5*40 + 20, 1},
		{"bytes", Limits{MessageRate: 1e6, ByteRate: 20_000}, 16*20 + 10, 1000},
		{"longer than the burst", Limits{MessageRate: 1e6, ByteRate: 480}, 1, 16*480 + 240},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			took := make(chan chat.Message, c.messages)
			ws := dial(t, serve(t, start(t, c.limits, io.Discard), published(took)))
			begun := time.Now()
			text := strings.Repeat("x", c.each)
			for range c.messages {
				if err := ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
					t.Fatal(err)
				}
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

func closeCode(ws *websocket.Conn) int {
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
				return closed.Code
			}
			return 0
		}
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

// A message has a time in which it must come to its end, also if it makes progress.
func TestMessageThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	r := start(t, paced, io.Discard)
	r.messageTime = 500 * time.Millisecond
	took := make(chan chat.Message, 10)
	url := serve(t, r, published(took))
	quiet := dial(t, url)
	for _, protocol := range []string{"", chat.Protocol} {
		ws := dial(t, url, protocol)
		partial(t, ws, 5000, 100)
		var dribble sync.WaitGroup
		dribble.Go(func() {
			for err := error(nil); err == nil; time.Sleep(50 * time.Millisecond) {
				_, err = ws.NetConn().Write([]byte("x"))
			}
		})
		begun := time.Now()
		if code := closeCode(ws); code != websocket.CloseTryAgainLater {
			t.Errorf("closed with %d", code)
		}
		if d := time.Since(begun); d < 400*time.Millisecond {
			t.Errorf("closed after %v", d)
		}
		ws.Close()
		dribble.Wait()
	}
	quiet.WriteMessage(websocket.TextMessage, []byte("silence between messages has no such bound"))
	<-took
}

// When the memory for unread messages is used up, the largest unfinished one is given up; others and what waits for
// Kafka are not.
func TestUnreadMemory(t *testing.T) {
	t.Parallel()
	r := start(t, Limits{MessageBytes: 60000, MessageRate: 1e6, ByteRate: 1 << 30}, io.Discard)
	r.unread.free = 200 << 10
	kafka, took := make(chan struct{}), make(chan chat.Message, 10)
	url := serve(t, r, func(ctx context.Context, m chat.Message, _ bool) (int64, error) {
		took <- m
		<-kafka
		return 0, nil
	})
	waits := dial(t, url)
	waits.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("w", 60000)))
	<-took // 64 KiB wait for Kafka
	small, large := dial(t, url), dial(t, url)
	partial(t, small, 30000, 20000) // 32 KiB
	partial(t, large, 60000, 50000) // 64 KiB
	var others []*websocket.Conn
	for range 3 {
		ws := dial(t, url)
		partial(t, ws, 30000, 17000)
		others = append(others, ws)
	}
	if code := closeCode(large); code != websocket.CloseTryAgainLater {
		t.Errorf("the largest was closed with %d", code)
	}
	close(kafka)
	for _, ws := range append(others, small) {
		rest := 30000 - 17000
		if ws == small {
			rest = 10000
		}
		if _, err := ws.NetConn().Write([]byte(strings.Repeat("y", rest))); err != nil {
			t.Error(err)
		}
		if m := <-took; len(m.Text) != 30000 {
			t.Errorf("%d bytes", len(m.Text))
		}
	}
	for _, ws := range append(others, small, waits) {
		ws.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		r.unread.mu.Lock()
		free, held := r.unread.free, len(r.unread.held)
		r.unread.mu.Unlock()
		if free == 200<<10 && held == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are free at the end, and %d messages are counted", free, held)
		}
	}
}

// A client that makes no sense is told so, and closed if it goes on.
func TestNonsense(t *testing.T) {
	t.Parallel()
	ws := dial(t, serve(t, start(t, paced, io.Discard), published(nil)), chat.Protocol)
	for range maxStrikes {
		ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"shout"}`))
	}
	for range maxStrikes - 1 {
		_, b, err := ws.ReadMessage()
		var e struct{ Type, Reason string }
		if err != nil || json.Unmarshal(b, &e) != nil || e.Type != "reject" || !strings.Contains(e.Reason, "shout") {
			t.Fatalf("%s %v", b, err)
		}
	}
	if code := closeCode(ws); code != websocket.ClosePolicyViolation {
		t.Errorf("closed with %d", code)
	}
}
