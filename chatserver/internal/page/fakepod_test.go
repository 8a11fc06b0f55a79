package page_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
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
	os.Setenv("TZ", fmt.Sprintf("Etc/GMT%+d", time.Now().UTC().Hour()-12)) // In the browser it is noon: no day ends during a test.
	code := m.Run()
	chromium.Stop()
	os.Exit(code)
}

// A visit is a page in a browser, and the pod of the page. The pod speaks chat.v1 exactly as the test tells it to, so that a
// test can be every pod there could be: a restarted one, a slow one, one with another log.
type visit struct {
	*browsertest.Tab
	*socket  // that the page has opened last
	t        *testing.T
	server   *httptest.Server
	version  string
	arrivals chan *socket
	door     atomic.Int64 // not 0: websockets are refused, and HTTP is answered with this status; below 0: nothing is answered
}

// A socket is the pod's end of one connection.
type socket struct {
	conn  *websocket.Conn
	asked url.Values   // the query of the upgrade
	said  chan message // closed when the page closed its end
}

// A message is what the page sends.
type message struct {
	Type, ID, Name, Text string
	Again                bool
}

// An event is what the pod sends.
type event map[string]any

// newVisit starts the pod, without a browser.
func newVisit(t *testing.T) *visit {
	t.Helper()
	served := page.New("pod-a")
	v := &visit{t: t, version: served.Version(), arrivals: make(chan *socket, 16)}
	mux := http.NewServeMux()
	mux.Handle("/chat/", http.StripPrefix("/chat", served))
	// A slow machine must not reach the page's bounds of time. The script of client.js tests those of the connection.
	bounds := regexp.MustCompile(`(PATIENCE|SILENCE|OVERDUE|SLEPT|NEWS|FIRST)_MS = [\d_]+`)
	modules, _ := filepath.Glob("*.js")
	for _, name := range modules {
		source, _ := os.ReadFile(name)
		mux.HandleFunc("/chat/"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/javascript")
			w.Write(bounds.ReplaceAll(source, []byte("${1}_MS = 1e9")))
		})
	}
	mux.HandleFunc("/chat/ws", v.serveSocket)
	v.server = httptest.NewServer(mux)
	t.Cleanup(v.server.Close)
	return v
}

// visitPod opens a page, which waits for the pod's first word. No other test runs.
func visitPod(t *testing.T) *visit {
	t.Helper()
	v := newVisit(t)
	v.Tab = chromium.Open(t, v.server.URL+"/chat/") // under a path, as behind a proxy
	v.accept()
	return v
}

// visitLive opens a page that is live after this history, beside the pages of other tests. The changes are of the welcome.
func visitLive(t *testing.T, changes event, history ...event) *visit {
	t.Helper()
	t.Parallel()
	v := visitPod(t)
	v.live(changes, history...)
	return v
}

func (v *visit) serveSocket(w http.ResponseWriter, r *http.Request) {
	if status := int(v.door.Load()); status < 0 {
		panic(http.ErrAbortHandler) // the server closes the connection
	} else if status != 0 {
		http.Error(w, "because the test says so", status)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"chat.v1"}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the page went away in the middle, as pages do
	}
	s := &socket{conn: conn, asked: r.URL.Query(), said: make(chan message, 1024)}
	v.arrivals <- s
	defer close(s.said)
	defer conn.Close()
	for {
		_, frame, err := conn.ReadMessage()
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(frame, &m); err != nil || conn.Subprotocol() != "chat.v1" {
			v.t.Errorf("the page sent %q with subprotocol %q", frame, conn.Subprotocol())
		}
		s.said <- m
	}
}

// accept waits for the next socket that the page opens.
func (v *visit) accept() {
	v.t.Helper()
	select {
	case v.socket = <-v.arrivals:
	case <-time.After(patience):
		v.t.Fatal("the page opened no socket")
	}
}

// acceptAfter is accept for a page that goes on after the message at this offset.
func (v *visit) acceptAfter(offset int) {
	v.t.Helper()
	v.accept()
	if got := v.asked.Get("after"); got != position(offset) || len(v.asked) != 1 {
		v.t.Errorf("the page asked for %v, want only after=%s", v.asked, position(offset))
	}
}

// welcome sends a welcome; changes overwrite what an ordinary one says.
func (v *visit) welcome(changes event) {
	v.t.Helper()
	e := event{"type": "welcome", "pod": "pod-a", "topic": "chat", "position": "", "resumed": v.asked.Has("after"), "reason": "fresh",
		"standalone": false, "partitions": 1, "max_bytes": 8192, "kafka": "up", "version": v.version}
	for key, value := range changes {
		e[key] = value
	}
	v.send(e)
}

func (v *visit) send(events ...event) {
	v.t.Helper()
	for _, e := range events {
		if err := v.conn.WriteJSON(e); err != nil {
			v.t.Fatalf("send %v: %v", e, err)
		}
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

// cut ends the connection without a close frame, as a killed pod does.
func (v *visit) cut() { v.conn.UnderlyingConn().Close() }

// waitClosed waits until the page has closed its end.
func (v *visit) waitClosed() {
	v.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case _, open := <-v.said:
			if !open {
				return
			}
		case <-deadline:
			v.t.Fatal("the page kept the socket open")
		}
	}
}

// write writes texts into the composer, and sends each with Enter.
func (v *visit) write(texts ...string) {
	v.t.Helper()
	for _, text := range texts {
		v.Do(`$("#text").focus()`)
		v.Write(text)
		v.Press(browsertest.Enter)
	}
}

// say is write, and returns what the pod gets.
func (v *visit) say(texts ...string) []message {
	v.t.Helper()
	v.write(texts...)
	return v.expect(texts...)
}

// expect waits for messages with these texts, in this order, and returns them.
func (v *visit) expect(texts ...string) []message {
	v.t.Helper()
	var got []message
	for _, want := range texts {
		var m message
		select {
		case m = <-v.said:
		case <-time.After(patience):
		}
		if m.Type != "message" || m.Text != want || len(m.ID) < 16 || len(m.ID) > 64 {
			v.t.Fatalf("the page sent %+v (nothing, if that is empty), want the text %q", m, want)
		}
		got = append(got, m)
	}
	return got
}

// expectAgain waits for a message that the page has sent before.
func (v *visit) expectAgain(before message) {
	v.t.Helper()
	got := v.expect(before.Text)[0]
	if again := got.Again; !again || before.Again || got.ID != before.ID || got.Name != before.Name {
		v.t.Errorf("resent as %+v, want the same as %+v, and again", got, before)
	}
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

// hello is a message of Ann.
func hello(offset int, text string) event {
	return record(offset, fmt.Sprintf("somebody-else-%04d", offset), "Ann", text)
}

// crowd is n messages of several people, numbered from first on.
func crowd(first, n int) []event {
	var events []event
	for i := first; i < first+n; i++ {
		events = append(events, record(i, fmt.Sprintf("crowd-%010d", i), fmt.Sprintf("Person %d", i/3%7), fmt.Sprintf("message %d", i)))
	}
	return events
}

// echo is the message event for what the page said.
func (m message) echo(offset int) event { return record(offset, m.ID, m.Name, m.Text) }

func (m message) ack(offset int) event {
	return event{"type": "ack", "id": m.ID, "offset": offset, "ms": 1.25}
}

func (m message) reject(reason string) event {
	return event{"type": "reject", "id": m.ID, "reason": reason}
}

// pods is a pods event.
func pods(all ...event) event { return event{"type": "pods", "pods": all} }

func at(pod string, people, offset, end int) event {
	return event{"pod": pod, "people": people, "offset": offset, "end": end}
}

// kafka is a status event.
func kafka(state, reason string) event {
	return event{"type": "status", "kafka": state, "reason": reason}
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
	text, _ := json.Marshal(value) // a test passes only what JSON has
	return string(text)
}
