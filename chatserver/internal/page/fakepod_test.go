package page_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/browsertest"
	"kafkachat/chatserver/internal/page"
)

// patience bounds the waits for the page. A passing test never uses it up.
const patience = 30 * time.Second

// chromium is one process for all tests of this package.
var chromium browsertest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.Stop()
	os.Exit(code)
}

// open opens a page in a browser that no other test has seen.
func open(t *testing.T, url string) *browsertest.Tab {
	t.Helper()
	return chromium.For(t).Open(url)
}

// A fakePod serves the page and speaks chat.v1 exactly as the test tells it to, so that a test can be every pod there
// could be: a restarted one, a slow one, one with another log.
type fakePod struct {
	t       *testing.T
	url     string // under a path, as behind a proxy
	version string
	server  *httptest.Server
	sockets chan *socket
	door    atomic.Int64 // not 0: websockets are refused, and HTTP is answered with this status
}

func newPod(t *testing.T, name string) *fakePod {
	t.Helper()
	served := page.New(name)
	pod := &fakePod{t: t, version: served.Version(), sockets: make(chan *socket, 16)}
	mux := http.NewServeMux()
	mux.Handle("/chat/", http.StripPrefix("/chat", served))
	mux.HandleFunc("/chat/ws", pod.serveSocket)
	pod.server = httptest.NewServer(mux)
	t.Cleanup(func() { pod.server.Close() })
	pod.url = pod.server.URL + "/chat/"
	return pod
}

// die ends the pod, and the socket that a page has.
func (pod *fakePod) die(socket *socket) {
	pod.server.CloseClientConnections()
	pod.server.Close()
	socket.cut()
}

// rise starts the pod again, at the same address.
func (pod *fakePod) rise() {
	pod.t.Helper()
	listener, err := net.Listen("tcp", pod.host())
	if err != nil {
		pod.t.Fatal(err)
	}
	again := httptest.NewUnstartedServer(pod.server.Config.Handler)
	again.Listener.Close()
	again.Listener = listener
	again.Start()
	pod.server = again
}

// host is what the page calls the pod's address.
func (pod *fakePod) host() string { return strings.Split(pod.url, "/")[2] }

func (pod *fakePod) serveSocket(w http.ResponseWriter, r *http.Request) {
	if status := int(pod.door.Load()); status != 0 {
		http.Error(w, "because the test says so", status)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"chat.v1"}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the page went away in the middle, as pages do
	}
	s := &socket{t: pod.t, conn: conn, version: pod.version, asked: r.URL.Query(), said: make(chan message, 1024)}
	pod.sockets <- s
	defer close(s.said)
	defer conn.Close()
	for {
		_, frame, err := conn.ReadMessage()
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(frame, &m); err != nil || conn.Subprotocol() != "chat.v1" {
			pod.t.Errorf("the page sent %q with subprotocol %q", frame, conn.Subprotocol())
		}
		s.said <- m
	}
}

// accept waits for the next socket that a page opens.
func (pod *fakePod) accept() *socket {
	pod.t.Helper()
	select {
	case s := <-pod.sockets:
		return s
	case <-time.After(patience):
		pod.t.Fatal("the page opened no socket")
		return nil
	}
}

// A message is what the page sends.
type message struct {
	Type, ID, Name, Text string
	Again                bool
}

// again is the message as the page has to send it a second time.
func (m message) again() message {
	m.Again = true
	return m
}

// An event is what the pod sends.
type event map[string]any

// A socket is the pod's end of one connection. It is used by the test alone.
type socket struct {
	t       *testing.T
	conn    *websocket.Conn
	version string
	asked   url.Values   // the query of the upgrade
	said    chan message // closed when the page closed its end
}

func (s *socket) send(events ...event) {
	s.t.Helper()
	for _, e := range events {
		if err := s.conn.WriteJSON(e); err != nil {
			s.t.Fatalf("send %v: %v", e, err)
		}
	}
}

// welcome sends a welcome; changes overwrite what an ordinary one says.
func (s *socket) welcome(changes event) {
	s.t.Helper()
	e := event{"type": "welcome", "pod": "pod-a", "topic": "chat", "position": "", "resumed": s.asked.Has("after"), "standalone": false,
		"partitions": 1, "max_bytes": 8192, "kafka": "up", "version": s.version}
	if !s.asked.Has("after") {
		e["reason"] = "fresh"
	}
	for key, value := range changes {
		e[key] = value
	}
	s.send(e)
}

// open is the whole beginning of an ordinary connection.
func (s *socket) open(history ...event) {
	s.t.Helper()
	s.welcome(nil)
	s.send(history...)
	s.send(live())
}

func live() event { return event{"type": "live"} }

// position is opaque for the page: the test makes sure that it does not depend on what is in it, and quotes it well.
func position(offset int) string { return fmt.Sprintf("%d~a+b/c=&%d", offset, offset*7) }

// record is a message event. With an empty id it is one of kafkawrite.
func record(offset int, id, name, text string) event {
	e := event{"type": "message", "offset": offset, "position": position(offset), "text": text, "time": time.Now().UTC().Format(time.RFC3339Nano)}
	if id != "" {
		e["id"], e["name"], e["pod"] = id, name, "pod-b"
	}
	return e
}

// echo is the message event for what the page said.
func (m message) echo(offset int) event { return record(offset, m.ID, m.Name, m.Text) }

func (m message) ack(offset int) event {
	return event{"type": "ack", "id": m.ID, "offset": offset, "ms": 1.25}
}

// next waits for the next message from the page.
func (s *socket) next() message {
	s.t.Helper()
	select {
	case m, open := <-s.said:
		if !open {
			s.t.Fatal("the page closed the socket instead of sending a message")
		}
		return m
	case <-time.After(patience):
		s.t.Fatal("the page sent no message")
	}
	return message{}
}

// expect waits for messages with these texts, in this order, and returns them.
func (s *socket) expect(texts ...string) []message {
	s.t.Helper()
	var got []message
	for _, want := range texts {
		m := s.next()
		if m.Type != "message" || m.Text != want || len(m.ID) < 16 || len(m.ID) > 64 {
			s.t.Fatalf("the page sent %+v, want the text %q", m, want)
		}
		got = append(got, m)
	}
	return got
}

// cut ends the connection without a close frame, as a killed pod does.
func (s *socket) cut() { s.conn.UnderlyingConn().Close() }

// waitClosed waits until the page has closed its end.
func (s *socket) waitClosed() {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, open := <-s.said:
			if !open {
				return
			}
		case <-deadline:
			s.t.Fatal("the page kept the socket open")
		}
	}
}
