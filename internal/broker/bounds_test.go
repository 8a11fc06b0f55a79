package broker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// heap returns by how many bytes the heap grows at most while f runs, garbage included.
func heap(f func()) uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, m.HeapAlloc
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	f()
	close(done)
	<-ended
	return most - before
}

// The broker may run for months: all topics together keep maxKept, whatever they are asked to keep,
// and the newest records are among that.
func TestTopicsAreBounded(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Config{Topic: "chat", DataDir: dir})
		w := dial(t, b.Addr())
		forever := "-1"
		other := createRequest("other", 2)
		other.Topics[0].Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.bytes", Value: &forever}, {Name: "retention.ms", Value: &forever}}
		w.ask(other, 3)
		if err := w.produce("other", batch(1, records("small, and so it stays"))); err != nil {
			t.Fatal(err)
		}
		value := strings.Repeat("x", 1<<20-200)
		const n = maxKept >> 20 * 3 / 2
		for range n {
			if err := w.produce("chat", batch(1, records(value))); err != nil {
				t.Fatal(err)
			}
		}
		if oldest, newest := w.oldest("chat"), w.newest("chat"); newest != n || newest-oldest > maxKept>>20+maxKept>>24+1 || newest-oldest < maxKept>>20*3/4 {
			t.Errorf("chat has the records from %d to %d of %d", oldest, newest, n)
		}
		if w.oldest("other") != 0 || w.newest("other") != 1 {
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

// Connections that each send what would become much more are served one after the other.
func TestManyBombsTakeLittleMemory(t *testing.T) {
	b := start(t, Config{Topic: "chat"})
	bomb := compress(t, 1, 16<<20)
	req := produceRequest("chat", batch(1, bomb, attributes(1)))
	req.SetVersion(7)
	sent := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	most := heap(func() {
		var all []*raw
		for range 30 {
			w := dial(t, b.Addr())
			w.Write(sent[:len(sent)-1])
			all = append(all, w)
		}
		for _, w := range all {
			w.Write(sent[len(sent)-1:])
		}
		for _, w := range all {
			w.number = 1
			if _, err := w.read(req.ResponseKind()); err != nil {
				t.Fatal(err)
			}
		}
	})
	if most > 30<<20 { // it is 10 MB, and 44 MB if two processors do as many as come
		t.Errorf("30 requests of %d bytes took %d MB", len(sent), most>>20)
	}
}

// A large request may hold memory for as long as it may take to come; then so many wait.
func TestManyLargeRequestsTakeTurns(t *testing.T) {
	b := start(t, Config{Topic: "chat"})
	half := strings.Repeat("x", maxBatch/2)
	var batches [][]byte
	for range 30 {
		batches = append(batches, batch(1, records(half)))
	}
	req := produceRequest("chat", batches...)
	req.SetVersion(7)
	sent := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	most := heap(func() {
		var all []*raw
		for range 20 {
			w := dial(t, b.Addr())
			go func() {
				w.Write(sent[:len(sent)-1])
				w.Write(sent[len(sent)-1:])
			}()
			all = append(all, w)
		}
		chat := dial(t, b.Addr())
		for range 20 { // small ones need not wait
			begin := time.Now()
			if err := chat.produce("chat", batch(1, records("hello"))); err != nil || time.Since(begin) > 5*time.Second {
				t.Fatalf("a small record took %v: %v", time.Since(begin), err)
			}
		}
		for _, w := range all {
			w.number = 1
			if _, err := w.read(req.ResponseKind()); err != nil {
				t.Fatal(err)
			}
		}
	})
	if most > 700<<20 { // all at a time would be more than 1 GB
		t.Errorf("20 requests of %d MB took %d MB", len(sent)>>20, most>>20)
	}
}

// Who reads no answers holds one of about a megabyte, whatever is asked for.
func TestAnswersThatNobodyReads(t *testing.T) {
	b := start(t, Config{Topic: "chat"})
	w := dial(t, b.Addr())
	for range 40 {
		if err := w.produce("chat", batch(1, records(strings.Repeat("x", 1<<20-200)))); err != nil {
			t.Fatal(err)
		}
	}
	fetch := fetchRequest("chat", 0)
	fetch.SetVersion(11)
	sent := kmsg.NewRequestFormatter().AppendRequest(nil, fetch, 1)
	most := heap(func() {
		for range maxConns - 2 {
			w := dial(t, b.Addr())
			w.Conn.(*net.TCPConn).SetReadBuffer(4096)
			for range 10 {
				w.Write(sent)
			}
		}
		for range 20 {
			w.newest("chat")
			time.Sleep(20 * time.Millisecond)
		}
	})
	if most > 400<<20 {
		t.Errorf("%d MB", most>>20)
	}
}

func TestTooManyConnections(t *testing.T) {
	b := start(t, Config{Topic: "chat", Own: "chatserver-"})
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
	if n := runtime.NumGoroutine() - before; n > 2*maxConns {
		t.Errorf("%d silent connections hold %d goroutines", 20*maxConns, n)
	}
	for range 2 * maxConns {
		dial(t, b.Addr()).newest("chat")
	}
	if _, err := other.try(kmsg.NewPtrMetadataRequest(), 1); err == nil {
		t.Error("the one that was silent longest is still there")
	}
	own.newest("chat")
	var more []*raw
	for i := range maxConns {
		w := dial(t, b.Addr())
		w.id = fmt.Sprint("chatserver-", i)
		w.try(kmsg.NewPtrMetadataRequest(), 1)
		more = append(more, w)
	}
	if _, err := dial(t, b.Addr()).try(kmsg.NewPtrMetadataRequest(), 1); err == nil || errors.Is(err, errSilent) {
		t.Errorf("one more than the server's own: %v", err)
	}
	own.newest("chat")
	more[0].newest("chat")
}

// What a client asks for again and again leaves nothing behind.
func TestAskingLeavesNothingBehind(t *testing.T) {
	b := start(t, Config{Topic: "chat"})
	w := dial(t, b.Addr())
	grows := func(name string, f func(i int)) {
		for i := range 3 * maxProducers / 2 { // what may stay
			f(i)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range 3000 {
			f(10_000 + i)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if n := int(after.HeapAlloc) - int(before.HeapAlloc); n > 1_200_000 { // 3000 records are less
			t.Errorf("%s: 3000 times leave %d KB", name, n>>10)
		}
	}
	grows("fetch sessions", func(i int) {
		fetch := fetchRequest(fmt.Sprint("no-such-topic-", i), 0)
		fetch.SessionEpoch = 0
		if id := w.ask(fetch, 11).(*kmsg.FetchResponse).SessionID; id != 0 {
			t.Fatal("there is a session")
		}
	})
	grows("producers", func(int) {
		p := w.ask(kmsg.NewPtrInitProducerIDRequest(), 1).(*kmsg.InitProducerIDResponse)
		w.produce("chat", batch(1, records("a"), func(b *kmsg.RecordBatch) {
			b.ProducerID, b.ProducerEpoch, b.FirstSequence = p.ProducerID, p.ProducerEpoch, 0
		}))
	})
	grows("unknown producers", func(i int) {
		w.produce("chat", batch(1, records("a"), func(b *kmsg.RecordBatch) {
			b.ProducerID, b.ProducerEpoch, b.FirstSequence = int64(i), 0, 0
		}))
	})
}

func TestIncompleteRequestsEnd(t *testing.T) {
	request := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrInitProducerIDRequest(), 1)
	tests := map[string]struct {
		write func(net.Conn)
		open  time.Duration // how long the connection stays, 0: for ever
	}{
		"nothing at all":   {func(net.Conn) {}, requestTimeout},
		"two bytes":        {func(c net.Conn) { c.Write(request[:2]) }, requestTimeout},
		"all but one byte": {func(c net.Conn) { c.Write(request[:len(request)-1]) }, requestTimeout},
		"a byte now and then": {func(c net.Conn) {
			for _, b := range request {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(requestTimeout / 5)
			}
		}, requestTimeout},
		"a request, then silence":         {func(c net.Conn) { c.Write(request) }, 0},
		"a request, then a part of one":   {func(c net.Conn) { c.Write(request); c.Write(request[:5]) }, requestTimeout},
		"two requests, and reads nothing": {nil, answerTimeout},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, conn := net.Pipe()
				b := &Broker{cfg: Config{Log: slog.New(slog.DiscardHandler)}, offered: offered(), ctx: t.Context(), clients: map[*client]struct{}{}}
				c := &client{Broker: b, Conn: server}
				b.clients[c] = struct{}{}
				begin := time.Now()
				ended := make(chan time.Duration, 1)
				go func() {
					c.serve()
					ended <- time.Since(begin)
				}()
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					if tt.write == nil {
						conn.Write(request)
						return
					}
					go io.Copy(io.Discard, conn)
					tt.write(conn)
				}()
				defer func() { conn.Close(); <-wrote }()
				select {
				case after := <-ended:
					if after != tt.open {
						t.Errorf("closed after %v, want %v", after, tt.open)
					}
				case <-time.After(24 * time.Hour):
					if tt.open != 0 {
						t.Errorf("still open, should have been closed after %v", tt.open)
					}
				}
			})
		})
	}
}
