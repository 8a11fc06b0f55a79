package chatclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
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
	client   *Client
	conns    chan net.Conn // dialed by the client, for the pod's HTTP server
	arrivals chan *arrival
	now      *arrival // the connection that the steps are about
	ids      []string // of what was said
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
	s := &stage{conns: make(chan net.Conn), arrivals: make(chan *arrival, 100)}
	s.client = New(Options{
		Address: func() string { return "ws://pod/ws" },
		Observe: func(e Event) {
			if e.Kind == Said {
				s.ids = append(s.ids, e.ID)
			}
		},
		dial: func(context.Context, string, string) (net.Conn, error) {
			pod, client := net.Pipe()
			s.conns <- pod
			return client, nil
		},
		dice: func() float64 { return 0.5 },
	})
	server := &http.Server{Handler: s}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.client.Run(ctx) })
	go server.Serve(s)
	defer func() {
		cancel()
		running.Wait()
		close(s.conns)
		server.Close()
	}()
	for _, line := range lines {
		synctest.Wait()
		if line == "" {
			continue
		}
		if err := s.step(line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// The stage is the listener of its server.
func (s *stage) Accept() (net.Conn, error) {
	if conn, ok := <-s.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (s *stage) Close() error   { return nil }
func (s *stage) Addr() net.Addr { return &net.TCPAddr{} }

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &arrival{answer: make(chan int)}
	if websocket.IsWebSocketUpgrade(r) {
		a.query = strings.ReplaceAll(r.URL.RawQuery, "%2F", "/")
	}
	s.arrivals <- a
	defer func() { a.closed = true }()
	select {
	case status := <-a.answer:
		if status == 0 {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		if status != http.StatusSwitchingProtocols {
			w.WriteHeader(status)
			return
		}
	case <-r.Context().Done(): // also at the end
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

// step does one line of the script: what the pod does here, what the person does in person.
func (s *stage) step(line string) error {
	for i := len(s.ids); i > 0; i-- {
		line = strings.ReplaceAll(line, fmt.Sprint("$", i), s.ids[i-1])
	}
	verb, rest, _ := strings.Cut(line, " ")
	words := append(strings.Fields(rest), "", "")
	number, err := strconv.Atoi(rest)
	if err != nil {
		number = -1 // asks never
	}
	switch verb {
	case "comes", "refused", "hangs", "asks":
		select {
		case s.now = <-s.arrivals:
		default:
			return errors.New("the client did not come")
		}
		status := map[string]int{"comes": http.StatusSwitchingProtocols, "refused": http.StatusServiceUnavailable, "hangs": -1, "asks": number}[verb]
		if status >= 0 {
			s.now.answer <- status
		}
		return unless(s.now.query == rest || verb == "asks" && s.now.query == "", "the client came with %q", s.now.query)
	case "welcome":
		event := map[string]any{"type": "welcome", "pod": "pod-a", "resumed": strings.HasPrefix(s.now.query, "after"), "reason": "fresh", "kafka": "up"}
		if err := json.Unmarshal([]byte(cmp.Or(rest, "{}")), &event); err != nil { // which leaves the other fields as they are
			return err
		}
		return s.now.ws.WriteJSON(event)
	case "live":
		return s.pod(`{"type":"live","position":""}`)
	case "pod":
		return s.pod(rest)
	case "message":
		id := words[1]
		if !slices.Contains(s.ids, id) {
			id += words[0]
		}
		return s.pod(fmt.Sprintf(`{"type":"message","offset":%s,"position":"p%[1]s","id":%q}`, words[0], id))
	case "ack":
		return s.pod(fmt.Sprintf(`{"type":"ack","id":%q,"offset":%s}`, words[0], words[1]))
	case "cut":
		return s.now.ws.UnderlyingConn().Close()
	case "closes":
		return unless(s.now.closed, "the connection is open")
	case "wait":
		time.Sleep(time.Duration(number) * time.Millisecond)
		return err
	}
	return s.person(verb, rest, words, number)
}

// person does the steps that are about what the person says and the client does about it.
func (s *stage) person(verb, rest string, words []string, number int) error {
	switch verb {
	case "hop":
		s.client.Hop()
	case "says":
		return unless(s.client.Say(rest), "the outbox is full")
	case "fills":
		for range number {
			if !s.client.Say("filler") {
				return errors.New("it is full before")
			}
		}
		return unless(!s.client.Say("filler"), "one more was taken")
	case "sends", "resends":
		if len(s.now.said) == 0 {
			return errors.New("the client sent nothing")
		}
		m := s.now.said[0]
		s.now.said = s.now.said[1:]
		fits := m["type"] == "message" && m["text"] == rest && m["again"] == (verb == "resends") && slices.Contains(s.ids, m["id"].(string))
		return unless(fits, "the client sent %v", m)
	case "quiet":
		return unless(len(s.arrivals) == 0 && (s.now == nil || len(s.now.said) == 0), "the client came, asked or sent something")
	case "decide":
		s.client.Decide(words[1], words[0] == "again")
	case "outbox":
		var all []string
		s.client.do(func() {
			for _, e := range s.client.outbox {
				state := [...]string{"waiting", "sent", "unsure", "stored", "refused"}[e.state]
				all = append(all, fmt.Sprint(state, ":", slices.Index(s.ids, e.id)+1))
			}
		})
		return unless(strings.Join(all, " ") == rest, "it holds %s", all)
	case "phase":
		var phase string
		s.client.do(func() { phase = [...]string{"away", "replaying", "live"}[s.client.phase] })
		return unless(phase == rest, "it is %s", phase)
	default:
		return errors.New("no such step")
	}
	return nil
}

func unless(holds bool, format string, a ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, a...)
}

func (s *stage) pod(event string) error {
	return s.now.ws.WriteMessage(websocket.TextMessage, []byte(event))
}
