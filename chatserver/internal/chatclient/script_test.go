package chatclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chatclient"
)

// TestScript plays the script that the page's client.js passes too. It says what a step means.
func TestScript(t *testing.T) {
	text, err := os.ReadFile("../page/testdata/client.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(text), "\n== ")[1:]
	if len(cases) < 20 {
		t.Fatalf("the script has %d cases", len(cases))
	}
	for _, c := range cases {
		name, lines, _ := strings.Cut(c, "\n")
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, strings.Split(lines, "\n")) })
		})
	}
}

// A stage is a pod that does what the script says, and a client that comes to it. All of it lives
// in the bubble of one test, where time passes when nobody does anything.
type stage struct {
	t        *testing.T
	client   *chatclient.Client
	conns    chan net.Conn // dialed by the client, for the pod's HTTP server
	arrivals chan *arrival
	over     chan struct{} // closed at the end
	now      *arrival      // the connection that the steps are about
	ids      []string      // of what was said
}

// An arrival is one request of the client. The test writes to ws, the handler does everything else
// between two steps.
type arrival struct {
	query  string // "" of a question by HTTP
	answer chan int
	ws     *websocket.Conn
	said   []map[string]any
	closed bool
}

func play(t *testing.T, lines []string) {
	s := &stage{t: t, conns: make(chan net.Conn), arrivals: make(chan *arrival, 100), over: make(chan struct{})}
	server := &http.Server{Handler: s}
	var running sync.WaitGroup
	running.Go(func() { server.Serve(s) })
	ctx, cancel := context.WithCancel(t.Context())
	s.client = chatclient.New(chatclient.Options{
		Address: func() string { return "ws://pod/ws" },
		Observe: func(e chatclient.Event) {
			if e.Kind == chatclient.Said {
				s.ids = append(s.ids, e.ID)
			}
		},
		Seed: 1,
	}.InScript(s.dial))
	running.Go(func() { s.client.Run(ctx) })
	defer func() {
		cancel()
		close(s.over)
		server.Close()
		running.Wait()
	}()
	for _, line := range lines {
		if line == "" {
			continue
		}
		synctest.Wait()
		if err := s.step(line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// The stage is the listener of its server.
func (s *stage) Accept() (net.Conn, error) {
	select {
	case conn := <-s.conns:
		return conn, nil
	case <-s.over:
		return nil, net.ErrClosed
	}
}
func (s *stage) Close() error   { return nil }
func (s *stage) Addr() net.Addr { return &net.TCPAddr{} }

func (s *stage) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	pod, client := net.Pipe()
	select {
	case s.conns <- pod:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := ""
	if websocket.IsWebSocketUpgrade(r) {
		query = strings.ReplaceAll(r.URL.RawQuery, "%2F", "/")
	}
	a := &arrival{query: query, answer: make(chan int)}
	s.arrivals <- a
	defer func() { a.closed = true }()
	var status int
	select {
	case status = <-a.answer:
	case <-r.Context().Done(): // also at the end
		return
	}
	switch status {
	case 0:
		panic(http.ErrAbortHandler) // the connection breaks
	case http.StatusSwitchingProtocols:
	default:
		w.WriteHeader(status)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"chat.v1"}}
	a.ws, _ = upgrader.Upgrade(w, r, nil)
	defer a.ws.Close()
	for {
		var m map[string]any
		if a.ws.ReadJSON(&m) != nil {
			return
		}
		a.said = append(a.said, m)
	}
}

func (s *stage) step(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch words := strings.Fields(rest); verb {
	case "comes":
		return s.attempt(rest, http.StatusSwitchingProtocols)
	case "refused":
		return s.attempt(rest, http.StatusServiceUnavailable)
	case "hangs":
		return s.attempt(rest, -1)
	case "asks":
		status, err := strconv.Atoi(rest)
		if err != nil {
			status = -1
		}
		return s.attempt("", status)
	case "welcome":
		event := map[string]any{"type": "welcome", "pod": "pod-a", "resumed": strings.HasPrefix(s.now.query, "after"), "reason": "fresh", "kafka": "up"}
		if rest != "" {
			if err := json.Unmarshal([]byte(rest), &event); err != nil { // which leaves the other fields as they are
				return err
			}
		}
		return s.now.ws.WriteJSON(event)
	case "live":
		return s.pod(`{"type":"live","position":""}`)
	case "pod":
		return s.pod(s.id(rest))
	case "message":
		id := s.id(words[1])
		if id == words[1] {
			id += words[0]
		}
		return s.pod(fmt.Sprintf(`{"type":"message","offset":%s,"position":"p%[1]s","id":%q}`, words[0], id))
	case "ack":
		return s.pod(fmt.Sprintf(`{"type":"ack","id":%q,"offset":%s}`, s.id(words[0]), words[1]))
	case "cut":
		return s.now.ws.UnderlyingConn().Close()
	case "closes":
		if !s.now.closed {
			return errors.New("the connection is open")
		}
		return nil
	case "wait":
		ms, err := strconv.Atoi(rest)
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return err
	case "hop":
		s.client.Hop()
		return nil
	default:
		return s.person(verb, rest, words)
	}
}

// person does the steps that are about what the person says and the client does about it.
func (s *stage) person(verb, rest string, words []string) error {
	switch verb {
	case "says":
		if !s.client.Say(rest) {
			return errors.New("the outbox is full")
		}
	case "fills":
		most, err := strconv.Atoi(rest)
		for n := range most {
			if !s.client.Say("filler") {
				return fmt.Errorf("message %d is one too many", n)
			}
		}
		if s.client.Say("filler") {
			return errors.New("one more was taken")
		}
		return err
	case "sends", "resends":
		if len(s.now.said) == 0 {
			return errors.New("the client sent nothing")
		}
		m := s.now.said[0]
		s.now.said = s.now.said[1:]
		if m["type"] != "message" || m["text"] != rest || m["again"] != (verb == "resends") || !slices.Contains(s.ids, m["id"].(string)) {
			return fmt.Errorf("the client sent %v", m)
		}
	case "quiet":
		if len(s.arrivals) > 0 || s.now != nil && len(s.now.said) > 0 {
			return errors.New("the client came, asked or sent something")
		}
	case "decide":
		s.client.Decide(s.id(words[1]), words[0] == "again")
	case "outbox":
		if got := s.client.Outbox(func(id string) int { return slices.Index(s.ids, id) + 1 }); !slices.Equal(got, words) {
			return fmt.Errorf("it holds %v", got)
		}
	case "phase":
		if got := s.client.Phase(); got != rest {
			return fmt.Errorf("it is %s", got)
		}
	default:
		return errors.New("no such step")
	}
	return nil
}

// attempt expects that the client has come, and answers; -1 is no answer.
func (s *stage) attempt(query string, status int) error {
	select {
	case s.now = <-s.arrivals:
	default:
		return errors.New("the client did not come")
	}
	if s.now.query != query {
		return fmt.Errorf("the client came with %q", s.now.query)
	}
	if status >= 0 {
		s.now.answer <- status
	}
	return nil
}

func (s *stage) pod(event string) error {
	return s.now.ws.WriteMessage(websocket.TextMessage, []byte(event))
}

// id puts the ids of messages where $1 and so on stand.
func (s *stage) id(text string) string {
	return regexp.MustCompile(`\$(\d+)`).ReplaceAllStringFunc(text, func(word string) string {
		n, _ := strconv.Atoi(word[1:])
		return s.ids[n-1]
	})
}
