// Package lesson_test shows each fault of ./naive, and that this server does not have it. README.md has the
// commands; this is the one for the client that does not read:
//
//	go test -v ./chatserver/lesson -run TestSeeItFail/slow
package lesson_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafkatest"
)

// An experiment does one thing to a version of the chat. It returns what was seen, and whether that
// is the fault.
type experiment struct {
	name string
	run  func(t *testing.T, v version) (seen string, fault bool)
}

func TestSeeItFail(t *testing.T) {
	show(t, versions(t), []experiment{
		{"map", concurrentMap},
		{"write", concurrentWrite},
		{"connections", connections},
		{"slow", slowClient},
		{"away", away},
		{"twice", twice},
		{"cut", func(t *testing.T, v version) (string, bool) { return cut(t, v, time.Second) }},
	})
}

// show runs the experiments with both versions: the naive one has the fault, and the server has not. Who
// has mended faults of the naive one, as an exercise, names them: MENDED=map,slow go test ...
func show(t *testing.T, versions []version, experiments []experiment) {
	mended := strings.Split(os.Getenv("MENDED"), ",")
	for _, e := range experiments {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			for _, v := range versions {
				t.Run(v.name, func(t *testing.T) {
					t.Parallel()
					v.faulty = v.naive() && !slices.Contains(mended, e.name)
					seen, fault := e.run(t, v)
					t.Log(seen)
					if fault != v.faulty {
						t.Errorf("has the fault: %t, want %t", fault, v.faulty)
					}
				})
			}
		})
	}
}

// People come and go, which changes the map, while messages go out to all, which ranges over it. When both
// happen at once is chance, and a map that is broken without a word can also make the server stand still:
// then a new one is started.
func concurrentMap(t *testing.T, v version) (string, bool) {
	kafka := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, kafka)
	begun, patience := time.Now(), v.chance()
	for time.Since(begun) < patience {
		a := v.start(t, kafka, topic)
		comeAndGo(t, a, kafka, topic, min(patience, 5*time.Second))
		if _, crash, found := strings.Cut(a.log(), "fatal error: "); found {
			line, _, _ := strings.Cut(crash, "\n")
			return fmt.Sprintf("after %.1f s the server is gone: fatal error: %s", time.Since(begun).Seconds(), line), true
		}
		a.kill()
	}
	return fmt.Sprintf("still there after %.1f s", time.Since(begun).Seconds()), false
}

// comeAndGo has 30 people come to a and leave while messages come, until a ends.
func comeAndGo(t *testing.T, a app, kafka, topic string, long time.Duration) {
	var people sync.WaitGroup
	end := time.Now().Add(long)
	for range 30 {
		people.Go(func() {
			for time.Now().Before(end) && !a.gone() {
				if ws, err := dial(a.addr); err == nil {
					ws.SetReadDeadline(time.Now().Add(time.Second))
					ws.ReadMessage() // until a message comes, and off again
					ws.Close()
				}
			}
		})
	}
	for time.Now().Before(end) && !a.gone() {
		kafkatest.Produce(t, kafka, topic, strings.Split(strings.Repeat("hello ", 50), " ")...)
	}
	people.Wait()
}

// handleWSConnections answers "/who" on a websocket to which handleMessages writes: gorilla allows one writer.
func concurrentWrite(t *testing.T, v version) (string, bool) {
	kafka := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, kafka)
	a := v.start(t, kafka, topic)
	const panics = "concurrent write to websocket connection"
	begun := time.Now()
	fault := func() bool { return strings.Contains(a.log(), panics) }
	for time.Since(begun) < v.chance() && !fault() {
		var people sync.WaitGroup
		for range 8 {
			people.Go(func() {
				ws, err := dial(a.addr)
				if err != nil {
					return
				}
				defer ws.Close()
				people.Go(func() { io.Copy(io.Discard, ws.UnderlyingConn()) })
				for end := time.Now().Add(time.Second); time.Now().Before(end); {
					if ws.WriteMessage(websocket.TextMessage, []byte("/who")) != nil {
						return
					}
				}
			})
		}
		for range 20 {
			kafkatest.Produce(t, kafka, topic, strings.Split(strings.Repeat("hello ", 50), " ")...)
		}
		people.Wait()
	}
	if fault() {
		return fmt.Sprintf("after %.1f s: panic: %s", time.Since(begun).Seconds(), panics), true
	}
	return fmt.Sprintf("no panic in %.1f s", time.Since(begun).Seconds()), false
}

// Each person costs the broker connections.
func connections(t *testing.T, v version) (string, bool) {
	proxy := kafkatest.NewProxy(t, kafkatest.Broker(t))
	a := v.start(t, proxy.Addr(), kafkatest.Topic(t, proxy.Addr()))
	before := proxy.Conns()
	const class = 40
	for range class {
		ws := a.open(t)
		ws.WriteMessage(websocket.TextMessage, []byte("hello"))
		ws.SetReadDeadline(time.Now().Add(time.Minute))
		if _, _, err := ws.ReadMessage(); err != nil {
			t.Fatal(err)
		}
	}
	fault := wait(v.chance(), func() bool { return proxy.Conns() >= before+class })
	return fmt.Sprintf("%d people: %d connections to the broker more than before", class, proxy.Conns()-before), fault
}

// One person's laptop is closed while much is said. Another one waits for the last message.
func slowClient(t *testing.T, v version) (string, bool) {
	kafka := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, kafka)
	a := v.start(t, kafka, topic)
	closed := a.open(t) // and never reads
	closed.NetConn().(*net.TCPConn).SetReadBuffer(4096)
	reader := a.visit(t, a.addr)
	const said, batch = 1500, 100 // of 8 KiB: more than the kernel keeps for a client
	all := true
	for n := batch; n <= said && all; n += batch {
		kafkatest.Produce(t, kafka, topic, slices.Repeat([]string{strings.Repeat("x", 8000)}, batch)...)
		all = wait(v.patience(), func() bool { return reader.Seen.Load() >= int64(n) })
	}
	return "one client does not read; another one: " + seen(said, reader), !all
}

// A person is away for a moment, comes back, and looks for what was said meanwhile.
func away(t *testing.T, v version) (string, bool) {
	kafka := kafkatest.Broker(t)
	a := v.start(t, kafka, kafkatest.Topic(t, kafka))
	ann, bob := a.visit(t, a.addr), a.visit(t, a.addr)
	say := func(text string) {
		before := bob.Seen.Load()
		bob.Said(text)
		a.await(t, "a message comes back", func() bool { return bob.Seen.Load() > before })
	}
	say("ann is here")
	a.await(t, "ann has the first message", func() bool { return ann.Seen.Load() == 1 })
	ann.Close()
	say("ann is away")
	ann.Back()
	say("ann is back")
	all := wait(v.patience(), func() bool { return ann.Seen.Load() == 3 })
	return "the one who was away: " + seen(3, ann), !all
}

// The broker stores a message, and the connection is cut before it can say so.
func twice(t *testing.T, v version) (string, bool) {
	proxy := kafkatest.NewProxy(t, kafkatest.Broker(t))
	a := v.start(t, proxy.Addr(), kafkatest.Topic(t, proxy.Addr()))
	ann := a.visit(t, a.addr)
	cut := false
	proxy.SetFault(func(r kafkatest.Request) (action kafkatest.Action) {
		if r.Key == kmsg.Produce && !cut {
			cut, action.CutAfter = true, true
		}
		return action
	})
	ann.Said("hello")
	a.await(t, "the message", func() bool { return ann.Seen.Load() > 0 })
	again := wait(v.chance(), func() bool { return ann.Seen.Load() > 1 })
	return seen(1, ann), again
}

// A proxy on the way ends each connection when it is of some age.
func cut(t *testing.T, v version, age time.Duration) (string, bool) {
	kafka := kafkatest.Broker(t)
	a := v.start(t, kafka, kafkatest.Topic(t, kafka))
	ann, bob := a.visit(t, cutting(t, a.addr, age)), a.visit(t, a.addr)
	const said = 10
	for i := range said {
		bob.Said(fmt.Sprint("message ", i))
		time.Sleep(age / 6)
	}
	all := wait(v.patience(), func() bool { return ann.Seen.Load() == said })
	return fmt.Sprintf("each connection is cut after %s: %s", age, seen(said, ann)), !all
}
