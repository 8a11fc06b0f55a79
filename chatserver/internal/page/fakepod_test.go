package page_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/browsertest"
	"kafkachat/chatserver/internal/page"
)

// patience bounds the waits for the page. A passing test never uses it up.
const patience = 60 * time.Second

// chromium is one process for all tests of this package.
var chromium browsertest.Chromium

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.Stop()
	os.Exit(code)
}

// A visit is a page in a browser, at a pod that says what the test tells it to.
type visit struct {
	*browsertest.Tab
	*socket // that the page has opened last
	t       *testing.T
	pod     *fakePod
}

// visitPod opens a page, which waits for the pod's first word.
func visitPod(t *testing.T) *visit {
	t.Helper()
	pod := newPod(t)
	v := &visit{t: t, pod: pod, Tab: chromium.Open(t, pod.url)}
	v.accept()
	return v
}

// visitLive opens a page that is live after this history. The changes are of the welcome.
func visitLive(t *testing.T, changes event, history ...event) *visit {
	t.Helper()
	v := visitPod(t)
	v.live(changes, history...)
	return v
}

// accept waits for the next socket that the page opens.
func (v *visit) accept() {
	v.t.Helper()
	v.socket = v.pod.accept()
}

// acceptAfter is accept for a page that goes on after the message at this offset.
func (v *visit) acceptAfter(offset int) {
	v.t.Helper()
	v.accept()
	if got := v.asked.Get("after"); got != position(offset) || len(v.asked) != 1 {
		v.t.Errorf("the page asked for %v, want only after=%s", v.asked, position(offset))
	}
}

// live is the whole beginning of a connection.
func (v *visit) live(changes event, history ...event) {
	v.t.Helper()
	v.welcome(changes)
	v.send(history...)
	v.send(live())
	v.Wait("live", isLive)
}

// back is the page's next connection, up to live.
func (v *visit) back(changes event, history ...event) {
	v.t.Helper()
	v.accept()
	v.live(changes, history...)
}

// say writes texts into the composer, sends each with Enter, and returns what the pod gets.
func (v *visit) say(texts ...string) []message {
	v.t.Helper()
	v.write(texts...)
	return v.expect(texts...)
}

// write is say without a pod that takes it.
func (v *visit) write(texts ...string) {
	v.t.Helper()
	for _, text := range texts {
		v.Do(`$("#text").focus()`)
		v.Write(text)
		v.Press(browsertest.Enter)
	}
}

// Conditions that many tests wait for.
const (
	isLive   = `$("#connection").dataset.state === "live"`
	isClosed = `$("#connection").dataset.state === "closed"`
)

// are is a condition: the elements of a selector have these texts, in this order.
func are(selector string, want ...string) string {
	return `texts(` + js(selector) + `) === ` + js(strings.Join(want, "|"))
}

// shown is a condition: these are the texts of the conversation, own waiting messages included, in this order.
func shown(texts ...string) string { return are("#log .text", texts...) }

// noted is a condition: the conversation has a line that contains this.
func noted(part string) string { return `texts("#rows .note").includes(` + js(part) + `)` }

// state is a condition: the waiting message with this text is in this state.
func state(text, want string) string {
	return `$$("#pending > li").some((row) => row.querySelector(".text").textContent === ` + js(text) +
		` && row.querySelector(".state").textContent === ` + js(want) + `)`
}

// js writes a value as JavaScript.
func js(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // a test passes only what JSON has
	}
	return string(text)
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

func newPod(t *testing.T) *fakePod {
	t.Helper()
	served := page.New("pod-a")
	pod := &fakePod{t: t, version: served.Version(), sockets: make(chan *socket, 16)}
	mux := http.NewServeMux()
	mux.Handle("/chat/", http.StripPrefix("/chat", served))
	// A slow machine must not reach the page's bounds of time. The script of client.js tests those of the connection.
	bounds := regexp.MustCompile(`(PATIENCE|SILENCE|OVERDUE|SLEPT|NEWS|FIRST)_MS = [\d_]+`)
	for name, source := range sources(t) {
		if path.Ext(name) == ".js" {
			mux.HandleFunc("/chat/"+name, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/javascript")
				fmt.Fprint(w, bounds.ReplaceAllString(source, "${1}_MS = 1e9"))
			})
		}
	}
	mux.HandleFunc("/chat/ws", pod.serveSocket)
	pod.server = httptest.NewServer(mux)
	t.Cleanup(pod.server.Close)
	pod.url = pod.server.URL + "/chat/"
	return pod
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

// expect waits for messages with these texts, in this order, and returns them.
func (s *socket) expect(texts ...string) []message {
	s.t.Helper()
	var got []message
	for _, want := range texts {
		var m message
		select {
		case m = <-s.said:
		case <-time.After(patience):
		}
		if m.Type != "message" || m.Text != want || len(m.ID) < 16 || len(m.ID) > 64 {
			s.t.Fatalf("the page sent %+v (nothing, if that is empty), want the text %q", m, want)
		}
		got = append(got, m)
	}
	return got
}

// cut ends the connection without a close frame, as a killed pod does.
func (s *socket) cut() { s.conn.UnderlyingConn().Close() }

// expectAgain waits for a message that the page has sent before.
func (s *socket) expectAgain(before message) {
	s.t.Helper()
	got := s.expect(before.Text)[0]
	if again := got.Again; !again || before.Again || got.ID != before.ID || got.Name != before.Name {
		s.t.Errorf("resent as %+v, want the same as %+v, and again", got, before)
	}
}

// notYet checks that the page has sent nothing so far. Call it after a condition that the page would have met later.
func (s *socket) notYet() {
	s.t.Helper()
	if len(s.said) > 0 {
		s.t.Errorf("the page sent %+v too early", <-s.said)
	}
}

// waitClosed waits until the page has closed its end.
func (s *socket) waitClosed() {
	s.t.Helper()
	for deadline := time.After(patience); ; {
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

// crowd is n messages of several people, numbered from first on.
func crowd(first, n int) []event {
	var events []event
	for i := first; i < first+n; i++ {
		events = append(events, record(i, fmt.Sprintf("crowd-%010d", i), fmt.Sprintf("Person %d", i/3%7), fmt.Sprintf("message %d", i)))
	}
	return events
}

// pods is a pods event with people, offset and end of each.
func pods(all ...event) event { return event{"type": "pods", "pods": all} }

func at(pod string, people, offset, end int) event {
	return event{"pod": pod, "people": people, "offset": offset, "end": end}
}

// kafka is a status event.
func kafka(state, reason string) event {
	return event{"type": "status", "kafka": state, "reason": reason}
}
