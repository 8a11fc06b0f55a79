package lesson_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chatclient"
	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/child"
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

// An app is a running program.
type app struct {
	version
	ended <-chan struct{}
	addr  string
	log   func() string
	kill  func()
}

func (a app) gone() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// start starts the version as a pod of the chat in topic.
func (v version) start(t *testing.T, kafka, topic string, env ...string) app {
	t.Helper()
	if !v.naive() {
		pod := podtest.Start(t, v.file, filepath.Join(t.TempDir(), "log"), "pod", append(env, "KAFKA_BROKER="+kafka, "TOPIC="+topic)...)
		pod.AwaitReady(t)
		return app{v, pod.Ended(), pod.Addr, pod.Log, pod.Kill}
	}
	one, _, _ := strings.Cut(kafka, ",") // naive takes the name of one broker
	a := launch(t, v.file, append(env, "KAFKA_BROKER="+one, "TOPIC="+topic)...)
	a.version = v
	a.naivePage(t, a.addr) // it listens before its consumer reads
	return a
}

// launch starts one of the lab's programs on a port that the kernel chooses, and returns when it listens.
func launch(t *testing.T, file string, env ...string) app {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(file)
	cmd.Env = append(os.Environ(), append(env, "PORT=0")...)
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	a := app{ended: process.Ended(), kill: process.Kill, log: func() string { b, _ := os.ReadFile(log); return string(b) }}
	a.await(t, "it listens", func() bool {
		match := regexp.MustCompile(`open http://(\S+)\n`).FindStringSubmatch(a.log())
		if match != nil {
			a.addr = match[1]
		}
		return match != nil
	})
	return a
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

// open does so as soon as the program takes it.
func (a app) open(t *testing.T) (ws *websocket.Conn) {
	t.Helper()
	a.await(t, "a websocket", func() bool {
		var err error
		ws, err = dial(a.addr)
		return err == nil
	})
	t.Cleanup(func() { ws.Close() })
	return ws
}

// join is open for a client that naive has in its map: it has read what it has said.
func (a app) join(t *testing.T) *websocket.Conn {
	t.Helper()
	ws := a.open(t)
	ws.WriteMessage(websocket.TextMessage, []byte("hello"))
	ws.SetReadDeadline(time.Now().Add(time.Minute))
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatalf("%s: said hello, and read nothing: %v\n%s", a.name, err, a.log())
	}
	return ws
}

// slow is join for a client that reads nothing more.
func (a app) slow(t *testing.T) *websocket.Conn {
	ws := a.join(t)
	ws.NetConn().(*net.TCPConn).SetReadBuffer(4096)
	return ws
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
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { client.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
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
		for said := stored(); !broken.Load() && !a.gone(); {
			said++
			ws.WriteMessage(websocket.TextMessage, []byte(warmUp))
			if wait(time.Second, there.Load) {
				return wait(time.Minute, func() bool { return stored() >= said })
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

// cutting is a proxy that ends each connection when it is so old, as Google's load balancer does
// after 30 s if nobody tells it otherwise. It returns its address.
func cutting(t *testing.T, target string, age time.Duration) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			end := func() { client.Close(); server.Close() }
			time.AfterFunc(age, end)
			go func() { io.Copy(client, server); end() }()
			go func() { io.Copy(server, client); end() }()
		}
	}()
	return ln.Addr().String()
}

func seen(said int, p *person) string { return fmt.Sprintf("said %d, seen %d", said, p.Seen.Load()) }
