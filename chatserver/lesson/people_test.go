package lesson_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	return 20 * time.Second
}

// chance is how long to try a fault that comes by chance.
func (v version) chance() time.Duration {
	switch {
	case v.faulty:
		return time.Minute
	case v.naive():
		return 10 * time.Second // mended, as somebody believes
	}
	return time.Second
}

// versions builds both programs, with flags for go build.
func versions(t *testing.T, flags ...string) []version {
	t.Helper()
	folder := t.TempDir()
	vs := []version{{name: "naive"}, {name: "chatserver"}}
	for i, pkg := range []string{"kafkachat/chatserver/lesson/naive", "kafkachat/chatserver"} {
		vs[i].file = filepath.Join(folder, vs[i].name)
		build := exec.Command("go", append(append([]string{"build", "-o", vs[i].file}, flags...), pkg)...)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", build, err, out)
		}
	}
	return vs
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
func (v version) start(t *testing.T, kafka, topic string) app {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	if !v.naive() {
		// The limits are for people; in this lesson programs type.
		pod := podtest.Start(t, v.file, log, "pod", "KAFKA_BROKER="+kafka, "TOPIC="+topic, "MESSAGE_RATE=100000")
		pod.AwaitReady(t)
		return app{v, pod.Ended(), pod.Addr, pod.Log, pod.Kill}
	}
	addr := freeAddr(t)
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(v.file)
	_, port, _ := net.SplitHostPort(addr)
	one, _, _ := strings.Cut(kafka, ",") // naive takes the name of one broker
	cmd.Env = append(os.Environ(), "KAFKA_BROKER="+one, "TOPIC="+topic, "PORT="+port, "POD_NAME=naive")
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	a := app{v, process.Ended(), addr, func() string { b, _ := os.ReadFile(log); return string(b) }, process.Kill}
	// It listens before its consumer reads: a message that comes back says that both do.
	a.await(t, "naive reads the topic", func() bool {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+addr+"/ws", nil)
		if err != nil {
			return false
		}
		defer ws.Close()
		ws.WriteMessage(websocket.TextMessage, []byte(warmUp))
		ws.SetReadDeadline(time.Now().Add(time.Second))
		for {
			if _, message, err := ws.ReadMessage(); err != nil || string(message) == warmUp {
				return err == nil
			}
		}
	})
	return a
}

const warmUp = "is anybody there?"

func (a app) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	if !wait(30*time.Second, done) {
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
		p, before := naivePage(t, addr), strings.Count(a.log(), "error <nil>")
		p.Told = func() bool { return strings.Count(a.log(), "error <nil>") > before } // it says so in its log
		return p
	}
	p, away, told := new(person), new(atomic.Bool), new(atomic.Bool)
	p.Told = told.Load
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

// naivePage is the page of ./naive: a websocket, and nothing more.
func naivePage(t *testing.T, addr string) *person {
	t.Helper()
	p := new(person)
	var ws *websocket.Conn
	p.Back = func() {
		var err error
		if ws, err = dial(addr); err != nil {
			t.Fatal(err)
		}
		go func(ws *websocket.Conn) {
			for {
				_, text, err := ws.ReadMessage()
				if err != nil {
					return
				}
				if string(text) != warmUp {
					p.Seen.Add(1)
				}
			}
		}(ws)
	}
	p.Said = func(text string) { ws.WriteMessage(websocket.TextMessage, []byte(text)) }
	p.Close = func() { ws.Close() }
	p.Back()
	t.Cleanup(func() { ws.Close() })
	time.Sleep(200 * time.Millisecond) // naive does not say when it has the client in its map
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
