package lesson_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chatclient"
	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// A version of the chat is what is tried: the naive program, or this server.
type version struct {
	name   string // "naive" or "chatserver"
	file   string // of the program
	faulty bool   // the experiment shall find its fault
}

func (v version) naive() bool { return v.name == "naive" }

// patience is how long to wait for what a version without the fault does.
func (v version) patience() time.Duration {
	if v.faulty {
		return 2 * time.Second
	}
	return time.Minute
}

// chance is how long to wait for the fault.
func (v version) chance() time.Duration {
	switch {
	case v.faulty:
		return time.Minute
	case v.naive():
		return 10 * time.Second // mended, as somebody believes
	}
	return time.Second
}

// build builds a program, with flags for go build.
func build(t *testing.T, program string, flags ...string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), filepath.Base(program))
	os.Stat(filepath.Join("..", "..", program, "main.go")) // so Go's test cache knows that the result depends on the program
	args := append(append([]string{"build", "-o", file}, flags...), "kafkachat/"+program)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", args, err, out)
	}
	return file
}

func versions(t *testing.T, flags ...string) []version {
	t.Helper()
	return []version{
		{name: "naive", file: build(t, "chatserver/lesson/naive", flags...)},
		{name: "chatserver", file: build(t, "chatserver", flags...)},
	}
}

// An app is a running program, with its topic.
type app struct {
	version
	kafka, topic string
	addr         string
	ended        <-chan struct{}
	log          func() string
	kill         func() error
}

// start starts the version as a pod of a chat of its own.
func (v version) start(t *testing.T, kafka string, env ...string) app {
	t.Helper()
	topic := kafkatest.Topic(t, kafka)
	if !v.naive() {
		pod := podtest.Start(t, v.file, filepath.Join(t.TempDir(), "log"), "pod", append(env, "KAFKA_BROKER="+kafka, "TOPIC="+topic)...)
		pod.AwaitReady(t)
		return app{v, kafka, topic, pod.Addr, pod.Ended(), pod.Log, func() error { return pod.Signal(os.Kill) }}
	}
	a := v.launch(t, kafka, topic, env...)
	a.naivePage(t, a.addr) // it listens before its consumer reads
	return a
}

// launch starts one of the lab's programs on a port that the kernel chooses, and returns when it listens.
func (v version) launch(t *testing.T, kafka, topic string, env ...string) app {
	t.Helper()
	one, _, _ := strings.Cut(kafka, ",") // naive takes the name of one broker
	p := clitest.New(t, one, topic, v.file)
	p.Cmd.Env = append(p.Cmd.Env, append(env, "PORT=0")...)
	p.Start()
	const listens = `open http://(\S+)\n`
	p.WaitFor(&p.Err, listens)
	addr := regexp.MustCompile(listens).FindStringSubmatch(p.Err.String())[1]
	return app{v, kafka, topic, addr, p.Ended, p.Err.String, p.Cmd.Process.Kill}
}

func (a app) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	if !wait(time.Minute, done) {
		t.Fatalf("%s: not in time: %s\n%s", a.name, what, a.log())
	}
}

// wait waits until done, or for so long.
func wait(long time.Duration, done func() bool) bool {
	for end := time.Now().Add(long); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// dial opens a websocket as the lab's page does.
func dial(addr string) (*websocket.Conn, error) {
	dialer := websocket.Dialer{HandshakeTimeout: 5 * time.Second}
	ws, _, err := dialer.Dial("ws://"+addr+"/ws", nil)
	return ws, err
}

// join opens a websocket for a client that naive has in its map: it has read what it has said.
func (a app) join(t *testing.T) (ws *websocket.Conn) {
	t.Helper()
	a.await(t, "a websocket", func() bool {
		var err error
		ws, err = dial(a.addr)
		return err == nil
	})
	t.Cleanup(func() { ws.Close() })
	ws.WriteMessage(websocket.TextMessage, []byte("hello"))
	ws.SetReadDeadline(time.Now().Add(time.Minute))
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatalf("%s: said hello, and read nothing: %v\n%s", a.name, err, a.log())
	}
	return ws
}

// reads fails unless this is what is read next, after any hello: a window may get the hello of one that joined just before it.
func reads(t *testing.T, ws *websocket.Conn, want string) {
	t.Helper()
	ws.SetReadDeadline(time.Now().Add(time.Minute))
	_, text, err := ws.ReadMessage()
	for err == nil && string(text) == "hello" {
		_, text, err = ws.ReadMessage()
	}
	if string(text) != want {
		t.Fatalf("a window reads %q (%v), want %q", text, err, want)
	}
}

// A person has a page open, of the kind that the app serves.
type person struct {
	Seen  atomic.Int64      // messages on the page
	Told  func() bool       // the app has called a message of this person's stored
	Said  func(text string) // says it
	Close func()            // the connection breaks, and stays away until Back
	Back  func()            // the page is opened again (naive), or finds the network again (chatserver)
}

// visit opens a page at addr, which is the app, or a proxy in front of it.
func (a app) visit(t *testing.T, addr string) *person {
	t.Helper()
	if a.naive() {
		return a.naivePage(t, addr)
	}
	var away, told atomic.Bool
	p := &person{Told: told.Load}
	client := chatclient.New(chatclient.Options{
		Name: "ann", Seed: uint64(time.Now().UnixNano()), Again: true,
		Address: func() string {
			if away.Load() {
				return ""
			}
			return "ws://" + addr + "/ws"
		},
		Observe: func(e chatclient.Event) {
			switch e.Kind {
			case chatclient.Message:
				p.Seen.Add(1)
			case chatclient.Acked:
				told.Store(true)
			}
		},
	})
	var running sync.WaitGroup
	running.Go(func() { client.Run(t.Context()) })
	t.Cleanup(running.Wait)
	p.Said = func(text string) { client.Say(text) }
	p.Close = func() { away.Store(true); client.Cut() }
	p.Back = func() { away.Store(false); client.Hop() }
	a.await(t, "a page is open", func() bool { return client.Status().Live })
	return p
}

// naivePage is the page of ./naive: a websocket, and nothing more. It is open when it shows what it has said:
// naive has it in its map then, and reads the topic. Each of naive's faults can end it, so no page is closed
// without need: while others come, that breaks the map.
func (a app) naivePage(t *testing.T, addr string) *person {
	t.Helper()
	const warmUp = "is anybody there?"
	p := new(person)
	var ws *websocket.Conn
	stored := func() int { return strings.Count(a.log(), "error <nil>") } // it says so in its log
	open := func() bool {
		var err error
		if ws, err = dial(addr); err != nil {
			return false
		}
		var there, broken atomic.Bool
		go func(ws *websocket.Conn) {
			for {
				_, text, err := ws.ReadMessage()
				switch {
				case err != nil:
					broken.Store(true)
					return
				case string(text) == warmUp:
					there.Store(true)
				default:
					p.Seen.Add(1)
				}
			}
		}(ws)
		for said := stored(); !broken.Load(); {
			said++
			ws.WriteMessage(websocket.TextMessage, []byte(warmUp))
			if wait(time.Second, there.Load) {
				return wait(time.Minute, func() bool { return broken.Load() || stored() >= said }) // what it said last may be lost then
			}
		}
		return false
	}
	p.Back = func() { a.await(t, "a page is open", open) }
	p.Back()
	t.Cleanup(func() { ws.Close() })
	before := stored()
	p.Told = func() bool { return stored() > before }
	p.Said = func(text string) { ws.WriteMessage(websocket.TextMessage, []byte(text)) }
	p.Close = func() {
		ws.Close()
		time.Sleep(time.Second / 2) // naive does not say when it has taken the page out of its map
	}
	return p
}

// cutting is a proxy that ends old connections, as Google's load balancer does after 30 s. It counts those that are open.
func cutting(t *testing.T, target string, age time.Duration) (addr string, open *atomic.Int64) {
	open = new(atomic.Int64)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), age)
		defer cancel()
		open.Add(1)
		defer open.Add(-1)
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), open
}
