package chatclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// TestScript plays the script that the page's client.js passes too. It says what a step means.
func TestScript(t *testing.T) {
	text, err := os.ReadFile("../page/testdata/client.txt")
	cases := strings.Split(string(text), "\n== ")[1:]
	if err != nil || len(cases) < 20 {
		t.Fatalf("the script has %d cases: %v", len(cases), err)
	}
	for _, c := range cases {
		name, lines, _ := strings.Cut(c, "\n")
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, strings.Split(lines, "\n")) })
		})
	}
}

// A stage is a pod that does what the script says, and the client of that pod.
type stage struct {
	t        *testing.T
	client   *Client
	conns    chan net.Conn // dialed by the client, for the pod's HTTP server
	arrivals chan *arrival
	now      *arrival // the connection that the steps are about
	ids      []string // of what was said
}

// An arrival is one request of the client. The test writes to ws, the handler does the rest.
type arrival struct {
	query  string // "" of a question by HTTP
	answer chan int
	ws     *websocket.Conn
	said   []map[string]any
	closed bool
}

func play(t *testing.T, lines []string) {
	s := &stage{t: t, conns: make(chan net.Conn), arrivals: make(chan *arrival, 100)}
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
	go s.client.Run(t.Context())
	go server.Serve(s)
	t.Cleanup(func() {
		<-s.client.done
		close(s.conns)
		server.Close()
	})
	for _, line := range lines {
		synctest.Wait()
		if line != "" {
			s.step(line)
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
	a := &arrival{query: r.URL.RawQuery, answer: make(chan int)}
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
	a.ws, _ = (&websocket.Upgrader{Subprotocols: []string{"chat.v1"}}).Upgrade(w, r, nil)
	defer a.ws.Close()
	for {
		var m map[string]any
		if a.ws.ReadJSON(&m) != nil {
			return
		}
		a.said = append(a.said, m)
	}
}

// step does one line of the script.
func (s *stage) step(line string) {
	for i := len(s.ids); i > 0; i-- {
		line = strings.ReplaceAll(line, fmt.Sprint("$", i), s.ids[i-1])
	}
	verb, rest, _ := strings.Cut(line, " ")
	words := append(strings.Fields(rest), "", "")
	number, _ := strconv.Atoi(rest)
	check := func(holds bool, found ...any) {
		if !holds {
			s.t.Fatalf("%s: the client did otherwise: %v", line, found)
		}
	}
	pod := func(format string, a ...any) {
		check(s.now.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, a...)) == nil)
	}
	switch verb {
	case "comes", "refused", "hangs", "asks":
		check(len(s.arrivals) > 0, "it did not come")
		s.now = <-s.arrivals
		if verb != "hangs" && rest != "never" {
			s.now.answer <- map[string]int{"comes": http.StatusSwitchingProtocols, "refused": http.StatusServiceUnavailable, "asks": number}[verb]
		}
		check(s.now.query == rest || verb == "asks" && s.now.query == "", s.now.query)
	case "welcome":
		event := map[string]any{"type": "welcome", "pod": "pod-a", "resumed": strings.HasPrefix(s.now.query, "after"), "reason": "fresh", "kafka": "up"}
		check(rest == "" || json.Unmarshal([]byte(rest), &event) == nil) // which leaves the other fields as they are
		check(s.now.ws.WriteJSON(event) == nil)
	case "live":
		pod(`{"type":"live"}`)
	case "pod":
		pod("%s", rest)
	case "message":
		id := words[1]
		if !slices.Contains(s.ids, id) {
			id += words[0]
		}
		pod(`{"type":"message","offset":%s,"position":"p%[1]s","id":%q}`, words[0], id)
	case "ack":
		pod(`{"type":"ack","id":%q,"offset":%s}`, words[0], words[1])
	case "cut":
		s.now.ws.UnderlyingConn().Close()
	case "closes":
		check(s.now.closed, "the connection is open")
	case "wait":
		time.Sleep(time.Duration(number) * time.Millisecond)
	case "hop":
		s.client.Hop()
	case "says":
		check(s.client.Say(rest), "the outbox is full")
	case "fills":
		for range number {
			check(s.client.Say("filler"), "the outbox is full before")
		}
		check(!s.client.Say("filler"), "one more was taken")
	case "sends", "resends":
		check(len(s.now.said) > 0, "it sent nothing")
		m := s.now.said[0]
		s.now.said = s.now.said[1:]
		check(m["type"] == "message" && m["text"] == rest && m["again"] == (verb == "resends") && slices.Contains(s.ids, m["id"].(string)), m)
	case "quiet":
		check(len(s.arrivals) == 0 && (s.now == nil || len(s.now.said) == 0), "it came, asked or sent something")
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
		check(strings.Join(all, " ") == rest, all)
	case "phase":
		var phase string
		s.client.do(func() { phase = [...]string{"away", "replaying", "live"}[s.client.phase] })
		check(phase == rest, phase)
	}
}
