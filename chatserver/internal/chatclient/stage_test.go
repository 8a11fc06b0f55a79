package chatclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chatclient"
)

const patience = 10 * time.Second

// A stage is a pod that says what the test tells it to, and a client that comes to it.
type stage struct {
	t      *testing.T
	client *chatclient.Client
	visits chan *visit

	mu     sync.Mutex // guards the following
	events []chatclient.Event
}

// A visit is one connection of the client.
type visit struct {
	t     *testing.T
	query string
	ws    *websocket.Conn
	over  chan struct{}
}

func newStage(t *testing.T, again bool) *stage {
	s := &stage{t: t, visits: make(chan *visit, 10)}
	upgrader := websocket.Upgrader{Subprotocols: []string{"chat.v1"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		v := &visit{t: t, query: r.URL.RawQuery, ws: ws, over: make(chan struct{})}
		s.visits <- v
		<-v.over
	}))
	t.Cleanup(server.Close)
	s.client = chatclient.New(chatclient.Options{
		Address: func() string { return "ws" + strings.TrimPrefix(server.URL, "http") + "/ws" },
		Observe: func(e chatclient.Event) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
		},
		Name: "Ann", Seed: 1, Again: again,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.client.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		for {
			select {
			case v := <-s.visits:
				v.leave()
				continue
			default:
			}
			break
		}
		running.Wait()
	})
	return s
}

// comes waits for the client's next connection.
func (s *stage) comes() *visit {
	s.t.Helper()
	select {
	case v := <-s.visits:
		s.t.Cleanup(v.leave)
		return v
	case <-time.After(patience):
		s.t.Fatal("the client does not come")
		return nil
	}
}

// seen waits until the client has observed something of a kind.
func (s *stage) seen(kind chatclient.Kind) chatclient.Event {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		i := slices.IndexFunc(s.events, func(e chatclient.Event) bool { return e.Kind == kind })
		if i >= 0 {
			e := s.events[i]
			s.events = slices.Delete(s.events, i, i+1)
			s.mu.Unlock()
			return e
		}
		s.mu.Unlock()
	}
	s.t.Fatalf("the client does not observe kind %d", kind)
	return chatclient.Event{}
}

// pending waits until so many messages are in the outbox.
func (s *stage) pending(want int) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); s.client.Status().Pending != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d messages are pending, want %d", s.client.Status().Pending, want)
		}
	}
}

func (v *visit) leave() {
	select {
	case <-v.over:
	default:
		close(v.over)
	}
}

func (v *visit) say(format string, args ...any) {
	v.t.Helper()
	if err := v.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		v.t.Fatal(err)
	}
}

// hears returns the id and the text of the client's next message.
func (v *visit) hears() (id, text string) {
	v.t.Helper()
	v.ws.SetReadDeadline(time.Now().Add(patience))
	var m struct{ Type, ID, Name, Text string }
	_, data, err := v.ws.ReadMessage()
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil || m.Type != "message" || m.Name != "Ann" || len(m.ID) != 32 {
		v.t.Fatalf("the client says %q (%v)", data, err)
	}
	return m.ID, m.Text
}
