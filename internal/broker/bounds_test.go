package broker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// heap returns by how many MB the heap grows at most while f runs, garbage included.
func heap(f func()) uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most, done := m.HeapAlloc, m.HeapAlloc, make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	for {
		select {
		case <-done:
			return (most - before) >> 20
		case <-time.After(5 * time.Millisecond):
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
}

// The broker may run for months: a topic keeps maxKept, whatever it was asked to keep, and its newest
// records are among that, also if the topic was loaded.
func TestTopicsAreBounded(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Config{DataDir: dir})
		forever := createRequest("chat", 1)
		for _, name := range []string{"retention.bytes", "retention.ms"} {
			forever.Topics[0].Configs = append(forever.Topics[0].Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: new("-1")})
		}
		w := dial(t, b.Addr())
		ask[*kmsg.CreateTopicsResponse](w, forever, 3)
		const n = 3 * maxKept >> 20
		for i := range int64(n) {
			if i == n/3 && dir != "" {
				b.Close()
				w = dial(t, start(t, Config{DataDir: dir}).Addr())
			}
			if err := w.produce("chat", batch(1, records(strings.Repeat("x", 1<<20-200)))); err != nil {
				t.Fatal(err)
			}
		}
		if kept := n - w.oldest("chat"); w.newest("chat") != n || kept < maxKept>>20 || kept > maxKept>>20+3 {
			t.Errorf("of %d records there are %d, and the topic ends at %d", n, kept, w.newest("chat"))
		}
	}
}

// Connections that each send what becomes much more, or large requests, or that read no answers, hold
// no more than some of them would, and a small record need not wait for them.
func TestMemory(t *testing.T) {
	bomb := batch(1, compress(t, 1, make([]byte, 16<<20)), attributes(1))
	for _, c := range []struct {
		name                  string
		conns, times, records int // of a megabyte, that are there
		request               kmsg.Request
		reads                 bool
		most                  uint64 // MB, about twice of what was seen
	}{
		{"bombs", 30, 1, 0, produceRequest("chat", bomb), true, 30},
		{"bombs in one request", 1, 1, 0, produceRequest("chat", slices.Repeat([][]byte{bomb}, maxPartitions)...), true, 60},
		{"large requests", 20, 1, 0, produceRequest("chat", slices.Repeat([][]byte{batch(1, records(strings.Repeat("x", maxBatch/2)))}, 7)...), true, 400},
		{"answers that nobody reads", maxConns - 2, 10, 6, fetchRequest("chat", 0), false, 600},
	} {
		b := start(t, Config{}, "chat")
		chat := dial(t, b.Addr())
		for range c.records {
			chat.produce("chat", batch(1, records(strings.Repeat("x", 1<<20-200))))
		}
		sent := slices.Repeat((&raw{}).bytes(c.request, 7), c.times)
		most := heap(func() {
			var all []*raw
			for range c.conns {
				w := dial(t, b.Addr())
				w.number = 1
				if !c.reads {
					w.Conn.(*net.TCPConn).SetReadBuffer(4096)
				}
				go func() {
					w.Write(sent[:len(sent)-1])
					w.Write(sent[len(sent)-1:])
				}()
				all = append(all, w)
			}
			for range 20 {
				begin := time.Now()
				if err := chat.produce("chat", batch(1, records("hello"))); err != nil || c.reads && time.Since(begin) > 10*time.Second {
					t.Errorf("%s: a small record took %v: %v", c.name, time.Since(begin), err)
				}
			}
			for _, w := range all {
				if c.reads {
					w.read(c.request.ResponseKind())
				}
			}
		})
		if t.Logf("%s: %d MB", c.name, most); most > c.most {
			t.Errorf("%s took %d MB", c.name, most)
		}
		b.Close()
	}
}

func TestTooManyConnections(t *testing.T) {
	b := start(t, Config{Own: "chatserver-"}, "chat")
	own, other := dial(t, b.Addr()), dial(t, b.Addr())
	own.id = "chatserver-producer-1"
	own.newest("chat")
	other.newest("chat")
	before := runtime.NumGoroutine()
	for range 20 * maxConns {
		dial(t, b.Addr())
	}
	dial(t, b.Addr()).newest("chat")
	other.newest("chat") // it has said something, and stays before those that have not
	if n := runtime.NumGoroutine() - before; n > 4*maxConns {
		t.Errorf("%d silent connections hold %d goroutines", 20*maxConns, n)
	}
	for range 2 * maxConns {
		dial(t, b.Addr()).newest("chat")
	}
	if _, err := other.try(new(kmsg.MetadataRequest), 1); err == nil {
		t.Error("the one that was silent longest is still there")
	}
	for i := range maxConns {
		w := dial(t, b.Addr())
		w.id = fmt.Sprint("chatserver-", i)
		w.try(new(kmsg.MetadataRequest), 1)
	}
	if _, err := dial(t, b.Addr()).try(new(kmsg.MetadataRequest), 1); err == nil || errors.Is(err, errSilent) {
		t.Errorf("one more than the server's own: %v", err)
	}
	own.newest("chat")
}

// What a client asks for again and again leaves nothing behind.
func TestAskingLeavesNothingBehind(t *testing.T) {
	w := dial(t, start(t, Config{}, "chat").Addr())
	for name, f := range map[string]func(i int){
		"fetch sessions": func(i int) {
			fetch := fetchRequest(fmt.Sprint("no-such-topic-", i), 0)
			fetch.SessionEpoch = 0
			if id := ask[*kmsg.FetchResponse](w, fetch, 11).SessionID; id != 0 {
				t.Fatal("there is a session")
			}
		},
		"producers":         func(int) { ask[*kmsg.InitProducerIDResponse](w, new(kmsg.InitProducerIDRequest), 1) },
		"unknown producers": func(i int) { w.produce("chat", batch(1, records("a"), by(int64(i), 0, 0))) },
		"connections": func(int) {
			conn, err := net.Dial("tcp", w.RemoteAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			(&raw{TB: t, Conn: conn}).newest("chat")
			conn.Close()
		},
	} {
		for i := range maxProducers + 100 { // what may stay
			f(i)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range 3000 {
			f(20_000 + i)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if n := int(after.HeapAlloc) - int(before.HeapAlloc); n > 1_200_000 { // 3000 records are less
			t.Errorf("%s: 3000 times leave %d KB", name, n>>10)
		}
	}
}

// one is a listener with one connection.
type one struct {
	net.Listener
	conn net.Conn
}

func (o one) Accept() (net.Conn, error) { return o.conn, nil }

func TestIncompleteRequestsEnd(t *testing.T) {
	request := (&raw{}).bytes(new(kmsg.InitProducerIDRequest), 1)
	for name, tt := range map[string]struct {
		write func(net.Conn)
		open  time.Duration // how long the connection stays, 0: for ever
	}{
		"nothing at all":   {func(net.Conn) {}, requestTimeout},
		"two bytes":        {func(c net.Conn) { c.Write(request[:2]) }, requestTimeout},
		"all but one byte": {func(c net.Conn) { c.Write(request[:len(request)-1]) }, requestTimeout},
		"a byte now and then": {func(c net.Conn) {
			for _, b := range request {
				time.Sleep(requestTimeout / 5)
				c.Write([]byte{b})
			}
		}, requestTimeout * 9 / 5},
		"a request, then silence":         {func(c net.Conn) { c.Write(request) }, 0},
		"a request, then a part of one":   {func(c net.Conn) { c.Write(request); c.Write(request[:5]) }, requestTimeout},
		"two requests, and reads nothing": {nil, answerTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				b := &Broker{cfg: Config{Log: slog.New(slog.DiscardHandler)}, offered: offered(), ready: make(chan struct{}), conns: make(map[*conn]struct{})}
				close(b.ready)
				c, _ := listener{one{conn: server}, b}.Accept()
				begin, ended := time.Now(), time.Duration(0)
				go func() { // as kfake does
					for _, err := c.Read(make([]byte, 1000)); err == nil; _, err = c.Read(make([]byte, 1000)) {
						if _, err := c.Write([]byte("answer")); err != nil {
							break
						}
					}
					ended = time.Since(begin)
					c.Close()
				}()
				go func() {
					if tt.write == nil {
						client.Write(request)
						return
					}
					go io.Copy(io.Discard, client)
					tt.write(client)
				}()
				time.Sleep(time.Hour)
				synctest.Wait()
				if ended != tt.open {
					t.Errorf("closed after %v, want %v (0: never)", ended, tt.open)
				}
				client.Close()
			})
		})
	}
}
