package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// heap returns by how many bytes the heap grows at most while f runs.
func heap(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // little of this is garbage
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
			return most - before
		case <-time.After(5 * time.Millisecond):
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
}

// The broker may run for months: all topics together keep maxKept, whatever they are asked to keep,
// and the newest records are among that.
func TestTopicsAreBounded(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Config{Topic: "chat", DataDir: dir})
		w := dial(t, b.Addr())
		other := createRequest("other", 2)
		for _, name := range []string{"retention.bytes", "retention.ms"} {
			other.Topics[0].Configs = append(other.Topics[0].Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: kmsg.StringPtr("-1")})
		}
		w.ask(other, 3)
		w.create("more", 1)
		w.produce("other", batch(1, records("small, and so it stays")))
		value := strings.Repeat("x", 1<<20-200)
		const n = maxKept >> 20 * 3 / 2
		kept := func(topic string) int64 { return w.newest(topic) - w.oldest(topic) }
		for i := range n {
			if err := w.produce([]string{"chat", "more"}[i%2], batch(1, records(value))); err != nil {
				t.Fatal(err)
			}
		}
		if k := kept("chat") + kept("more"); w.newest("chat") != n/2 || k > maxKept>>20+maxKept>>24+1 || k < maxKept>>20*3/4 {
			t.Errorf("of %d records there are %d in chat and %d in more", n, kept("chat"), kept("more"))
		}
		if len(w.values("other")) != 1 {
			t.Errorf("the small topic lost its record")
		}
		runtime.GC()
		var m runtime.MemStats
		if runtime.ReadMemStats(&m); dir == "" && m.HeapAlloc > 2*maxKept {
			t.Errorf("%d MB of heap", m.HeapAlloc>>20)
		}
		b.Close()
	}
}

// Connections that each send what becomes much more, or large requests, or that read no answers, hold
// no more than some of them would, and a small record need not wait for them.
func TestMemory(t *testing.T) {
	bomb := batch(1, compress(make([]byte, 16<<20)), attributes(4))
	for _, c := range []struct {
		name                  string
		conns, times, records int // of a megabyte, that are there
		request               kmsg.Request
		reads                 bool
		most                  uint64 // MB, twice of what was seen or more
	}{
		{"bombs", 20, 1, 0, produceRequest("chat", bomb), true, 200},
		{"bombs in one request", 1, 1, 0, produceRequest("chat", slices.Repeat([][]byte{bomb}, maxPartitions)...), true, 300},
		{"large requests", 16, 1, 0, produceRequest("chat", slices.Repeat([][]byte{batch(1, records(strings.Repeat("x", maxBatch/2)))}, 30)...), true, 300},
		{"answers that nobody reads", maxConns - 2, 10, 40, fetchRequest("chat", 0), false, 400},
	} {
		b := start(t, Config{Topic: "chat"})
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
				if err := chat.produce("chat", batch(1, records("hello"))); err != nil {
					t.Errorf("%s: a small record: %v", c.name, err)
				}
			}
			for _, w := range all {
				if c.reads {
					w.read(c.request.ResponseKind())
				}
			}
		}) >> 20
		if t.Logf("%s: %d MB", c.name, most); most > c.most {
			t.Errorf("%s took %d MB", c.name, most)
		}
		b.Close()
	}
}

func TestTooManyConnections(t *testing.T) {
	b := start(t, Config{Topic: "chat", Own: "chatserver-"})
	own, other := dial(t, b.Addr()), dial(t, b.Addr())
	own.id = "chatserver-producer-1"
	own.newest("chat")
	other.newest("chat")
	before := runtime.NumGoroutine()
	for range 4 * maxConns {
		dial(t, b.Addr())
	}
	dial(t, b.Addr()).newest("chat")
	other.newest("chat") // it has said something, and stays before those that have not
	for end := time.Now().Add(patience); runtime.NumGoroutine()-before > 2*maxConns; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d silent connections hold %d goroutines", 4*maxConns, runtime.NumGoroutine()-before)
		}
	}
	for range 2 * maxConns {
		dial(t, b.Addr()).newest("chat")
	}
	if _, err := other.try(kmsg.NewPtrMetadataRequest(), 1); err == nil {
		t.Error("the one that was silent longest is still there")
	}
	for i := range maxConns {
		w := dial(t, b.Addr())
		w.id = fmt.Sprint("chatserver-", i)
		w.try(kmsg.NewPtrMetadataRequest(), 1)
	}
	if _, err := dial(t, b.Addr()).try(kmsg.NewPtrMetadataRequest(), 1); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more than the server's own: %v", err)
	}
	own.newest("chat")
}

// After bytes that are no request a connection ends at once, and a late request ends it after its time.
func TestConnectionsEnd(t *testing.T) {
	request := (&raw{}).bytes(kmsg.NewPtrInitProducerIDRequest(), 1)
	const never = -1
	type row struct {
		write func(net.Conn)
		open  time.Duration // how long the connection stays
	}
	rows := map[string]row{
		"nothing at all":   {func(net.Conn) {}, requestTimeout},
		"two bytes":        {func(c net.Conn) { c.Write(request[:2]) }, requestTimeout},
		"all but one byte": {func(c net.Conn) { c.Write(request[:len(request)-1]) }, requestTimeout},
		"a byte now and then": {func(c net.Conn) {
			for _, b := range request {
				time.Sleep(requestTimeout / 5)
				c.Write([]byte{b})
			}
		}, requestTimeout * 6 / 5},
		"a request, then silence":         {func(c net.Conn) { c.Write(request) }, never},
		"a request, then a part of one":   {func(c net.Conn) { c.Write(request); c.Write(request[:5]) }, requestTimeout},
		"two requests, and reads nothing": {nil, answerTimeout},
	}
	for name, sent := range badBytes() {
		rows[name] = row{func(c net.Conn) { c.Write(sent) }, 0}
	}
	for name, r := range rows {
		synctest.Test(t, func(t *testing.T) {
			server, conn := net.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			b := &Broker{cfg: Config{Log: slog.New(slog.DiscardHandler)}, offered: offered(), ctx: ctx, clients: make(map[*client]struct{})}
			b.inside.Listen("tcp", "localhost:0") // what is to reach kfake waits
			begin, ended := time.Now(), time.Duration(never)
			go func() {
				b.serve(&client{Conn: server})
				ended = time.Since(begin)
			}()
			go func() {
				if r.write == nil {
					conn.Write(request)
					return
				}
				go io.Copy(io.Discard, conn)
				r.write(conn)
			}()
			time.Sleep(time.Hour)
			synctest.Wait()
			if ended != r.open {
				t.Errorf("%s: closed after %v, want %v (-1ns: never)", name, ended, r.open)
			}
			cancel()
			conn.Close()
		})
	}
}
