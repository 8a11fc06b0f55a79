// Package lesson_test shows each fault of ./naive, and that this server does not have it. README.md has the
// commands; this is the one for the client that does not read:
//
//	go test -v ./chatserver/lesson -run TestSeeItFail/slow
package lesson_test

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/cli/clitest"
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
	mended := strings.FieldsFunc(os.Getenv("MENDED"), func(r rune) bool { return r == ',' })
	for _, name := range mended {
		if all := "map write connections slow away twice cut race gone cut30"; !slices.Contains(strings.Fields(all), name) {
			t.Fatalf("MENDED names %q, and the faults are: %s", name, all)
		}
	}
	for _, e := range experiments {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			for _, v := range versions {
				t.Run(v.name, func(t *testing.T) {
					t.Parallel()
					v.faulty = v.naive() && !slices.Contains(mended, e.name)
					seen, fault := e.run(t, v)
					t.Log(seen)
					switch {
					case fault && !v.faulty:
						t.Errorf("%s has the fault %q", v.name, e.name)
					case !fault && v.faulty:
						t.Errorf("naive has no fault %q: if you have mended it, say so, with MENDED=%s go test ...", e.name, strings.Join(append(mended, e.name), ","))
					}
				})
			}
		})
	}
}

// People come and go, which changes the map, while messages go out to all, which ranges over it. Go notices when two
// goroutines do so at once: that is chance. A map that is broken without a word can also make the program stand still.
func concurrentMap(t *testing.T, v version) (string, bool) {
	return crash(t, v, "fatal error: ", 3*v.chance(), 5*time.Second, func(a app, goes func() bool) {
		var people sync.WaitGroup
		for range 30 {
			people.Go(func() {
				for goes() {
					if ws, err := dial(a.addr); err == nil {
						ws.SetReadDeadline(time.Now().Add(time.Second))
						ws.ReadMessage() // until a message comes, and off again
						ws.Close()
					}
				}
			})
		}
		for goes() {
			kafkatest.Produce(t, a.kafka, a.topic, slices.Repeat([]string{"hello"}, 50)...)
		}
		people.Wait()
	})
}

// gorilla allows one writer. handleMessages waits for a slow client, handleWSConnections writes.
func concurrentWrite(t *testing.T, v version) (string, bool) {
	return crash(t, v, "concurrent write to websocket connection", v.chance(), v.chance(), func(a app, goes func() bool) {
		slow := a.slow(t)
		for n := 0; goes(); n++ {
			if n < enough {
				a.large(t)
			}
			slow.WriteMessage(websocket.TextMessage, []byte("/who"))
			time.Sleep(time.Millisecond)
		}
	})
}

// crash stirs a version until it logs these words, for so long, and starts a new one after each so long.
func crash(t *testing.T, v version, words string, long, each time.Duration, stir func(a app, goes func() bool)) (string, bool) {
	kafka, begun := kafkatest.Broker(t), time.Now()
	for time.Since(begun) < long {
		// With more threads than cores, and garbage collected all the time, a goroutine often stops in the middle of something.
		a := v.start(t, kafka, "GOMAXPROCS=16", "GOGC=1")
		end := time.Now().Add(min(long, each))
		stir(a, func() bool {
			select {
			case <-a.ended:
				return false
			default:
				return time.Now().Before(end) && !strings.Contains(a.log(), words)
			}
		})
		if line := regexp.MustCompile(`.*` + words + `.*`).FindString(a.log()); line != "" {
			return fmt.Sprintf("after %.1f s: %s", time.Since(begun).Seconds(), line), true
		}
		a.kill()
	}
	return fmt.Sprintf("nothing in %.1f s", time.Since(begun).Seconds()), false
}

// Each person costs the broker connections.
func connections(t *testing.T, v version) (string, bool) {
	proxy := kafkatest.NewProxy(t, kafkatest.Broker(t))
	a := v.start(t, proxy.Addr())
	before := proxy.Conns()
	const class = 40
	var people []*websocket.Conn
	for range class {
		people = append(people, a.join(t))
		for _, ws := range people[:len(people)-1] {
			ws.ReadMessage() // the next person comes after this hello has gone to all: naive ends if its map changes meanwhile
		}
	}
	fault := wait(v.chance(), func() bool { return proxy.Conns() >= before+class })
	return fmt.Sprintf("%d people: %d connections to the broker more than before", class, proxy.Conns()-before), fault
}

// One person's laptop is closed while much is said. Another one waits for the last message.
func slowClient(t *testing.T, v version) (string, bool) {
	a := v.start(t, kafkatest.Broker(t))
	reader := a.visit(t, a.addr)
	a.slow(t)
	all, said := true, 1 // what the slow one has said when it came
	for n := 0; all && n < enough; n++ {
		a.large(t)
		said += 100
		all = wait(v.patience(), func() bool { return reader.Seen.Load() >= int64(said) })
	}
	return "one client does not read; another one: " + seen(said, reader), !all
}

// A person is away for a moment, comes back, and looks for what was said meanwhile.
func away(t *testing.T, v version) (string, bool) {
	a := v.start(t, kafkatest.Broker(t))
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
	say("ann is still away") // naive has now sent the message before this one to all, so a page that is opened later cannot get it
	ann.Back()
	say("ann is back")
	all := wait(v.patience(), func() bool { return ann.Seen.Load() == 4 })
	return "the one who was away: " + seen(4, ann), !all
}

// The broker stores a message, and the connection is cut before it can say so.
func twice(t *testing.T, v version) (string, bool) {
	proxy := kafkatest.NewProxy(t, kafkatest.Broker(t))
	a := v.start(t, proxy.Addr())
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

func seen(said int, p *person) string { return fmt.Sprintf("said %d, seen %d", said, p.Seen.Load()) }

// slow is join for a client that reads nothing more.
func (a app) slow(t *testing.T) *websocket.Conn {
	ws := a.join(t)
	ws.NetConn().(*net.TCPConn).SetReadBuffer(4096)
	return ws
}

// large writes 100 messages of 8 kB.
func (a app) large(t *testing.T) {
	kafkatest.Produce(t, a.kafka, a.topic, slices.Repeat([]string{strings.Repeat("x", 8000)}, 100)...)
}

// enough is how many times that are more than a kernel keeps for a client.
const enough = 15

// A proxy on the way ends each connection when it is of some age.
func cut(t *testing.T, v version, age time.Duration) (string, bool) {
	a := v.start(t, kafkatest.Broker(t))
	addr, open := cutting(t, a.addr, age)
	ann, bob := a.visit(t, addr), a.visit(t, a.addr)
	said := 0
	for last := false; !last; said++ {
		last = said >= 9 && (!v.faulty || open.Load() == 0) // on a slow machine the cut comes later
		bob.Said(fmt.Sprint("message ", said))
		time.Sleep(age / 6)
	}
	all := wait(v.patience(), func() bool { return ann.Seen.Load() == int64(said) })
	return fmt.Sprintf("each connection is cut after %s: %s", age, seen(said, ann)), !all
}

// The lab's first stage: what one says is seen in all windows of the pod, and in no other pod.
func TestFirst(t *testing.T) {
	t.Parallel()
	first := version{name: "first", file: build(t, "chatserver/lesson/first")}
	a, b := first.launch(t, "", ""), first.launch(t, "", "")
	ann, bob, eve := a.join(t), a.join(t), b.join(t)
	ann.WriteMessage(websocket.TextMessage, []byte("from a"))
	reads(t, ann, "from a")
	reads(t, bob, "from a")
	eve.WriteMessage(websocket.TextMessage, []byte("from b"))
	reads(t, eve, "from b")
	second := clitest.New(t, "", "", first.file)
	second.Cmd.Env = append(second.Cmd.Env, "PORT="+a.addr[strings.LastIndex(a.addr, ":")+1:])
	second.Start().WantExit(1)
	if said := second.Err.String(); !strings.Contains(said, "set PORT to another port") || strings.Contains(said, "open") {
		t.Errorf("a second program on the same port: %s", said)
	}
}
