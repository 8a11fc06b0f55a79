package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/podtest"
	"kafkachat/chatserver/internal/room"
)

const (
	handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" // but for the empty line at its end
	rawHandshake  = handshake + "\r\n"
	chatHandshake = handshake + "Sec-WebSocket-Protocol: " + chat.Protocol + "\r\n\r\n"
	pageRequest   = "GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
)

// Not parallel: it would disturb tests that measure.
func TestAbuse(t *testing.T) { abuse(t, 2000, 10_000, 1000, 2*time.Second) }

// abuse is rude to one server, while a client in the same chat goes on. At last no goroutine, no descriptor, no memory is left of
// that. Go's runtime keeps what the largest crowd took, so that crowd comes twice.
func abuse(t *testing.T, crowd, handshakes, unfinished int, floods time.Duration) {
	p := startProcess(t, podtest.Build(t), "LOG_BYTES=4194304")
	var files syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	most := int(files.Cur / 2) // of this process and the server
	crowd = min(most, crowd)
	p.storm(crowd)
	p.settle()
	before := p.usage()
	talker := p.raw("")
	ctx, stop := context.WithCancel(t.Context())
	var talk sync.WaitGroup
	talk.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := talker.tryEcho(fmt.Sprint("control ", i)); err != nil {
				t.Errorf("the client that talks, after %d messages: %v", i, err)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	for name, abuse := range map[string]func(){
		"connections opened and dropped at once": func() { p.storm(crowd) },
		"random handshakes":                      func() { p.randomHandshakes(handshakes) },
		"messages that do not end":               func() { p.unfinished(min(most, unfinished)) },
		"floods":                                 func() { p.floods(floods) },
	} {
		t.Log(name)
		abuse()
	}
	stop()
	talk.Wait()
	talker.ws.Close()
	p.settle()
	waitFor(t, "the server to be as it was", func() bool {
		after := p.usage()
		t.Logf("before: %+v, after: %+v", before, after)
		// Memory moves a little by itself, connections to Kafka come and go, and a pod remembers the ids of messages.
		const noise, id = 512 << 10, 128
		ids := id * min(after.records-before.records, chat.WindowSize)
		return after.goroutines <= before.goroutines+20 && after.descriptors <= before.descriptors+10 &&
			after.memory <= before.memory*1.1+noise+ids
	})
}

// A pod that may open few files keeps some for Kafka and its operator; and it survives that whoever reads its log goes away.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	// The first line of the log says where the metrics are; the second one is a broken pipe.
	poor := filepath.Join(t.TempDir(), "poor")
	script := "#!/bin/bash\nulimit -n 64\nexec " + podtest.Build(t) + " 2> >(head -n 1)\n"
	if err := os.WriteFile(poor, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, poor)
	first := p.chat("")
	first.arrive()
	in := 1
	for range 60 {
		if _, response, err := p.tryDial("", ""); err == nil {
			in++
		} else if response == nil || response.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("a client was neither let in nor refused: %v", err)
		}
	}
	if in < 20 || in == 61 {
		t.Errorf("%d are in", in)
	}
	for range 200 { // and HTTP connections that nobody closes
		defer p.ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").Close()
	}
	first.publish(longID("a"), "still here") // the first message: the producer connects now
	if n := p.metric(`chat_connections_refused_total{reason="full"}`); int(n) != 61-in {
		t.Errorf("%v refusals are counted, of %d", n, 61-in)
	}
}

// usage is what a server has taken from its machine.
type usage struct{ goroutines, descriptors, memory, records float64 }

func (p *testPod) usage() usage {
	for range 3 { // what is in a pool survives one garbage collection
		fetch(p.t, "GET", p.admin+"/debug/pprof/heap?gc=1")
	}
	return usage{p.metric("go_goroutines"), p.metric("process_open_fds"),
		p.metric("go_memstats_heap_alloc_bytes") + p.metric("go_memstats_stack_inuse_bytes"), p.metric("chat_records_total")}
}

// settle waits until everybody has gone, and fills the server's log, so that it is as large as it gets.
func (p *testPod) settle() {
	c := p.raw("")
	for range 300 {
		if err := c.tryEcho(strings.Repeat("x", 8000)); err != nil {
			p.t.Fatal(err)
		}
	}
	c.ws.Close()
	p.waitMetric("chat_connections", 0)
}

// storm opens n websockets and drops them all at once.
func (p *testPod) storm(n int) {
	p.join(n, "", func() {
		waitFor(p.t, "the crowd to be in", func() bool { return p.metric("chat_connections") >= float64(n) })
	})
	waitFor(p.t, "all but the talker to be gone", func() bool { return p.metric("chat_connections") <= 1 })
}

// randomHandshakes sends handshakes with random faults, and things that are none. Each is answered or closed.
func (p *testPod) randomHandshakes(n int) {
	seed, stop := uint64(time.Now().UnixNano()), time.Now().Add(90*time.Second) // however slow the machine is
	p.t.Logf("seed %d", seed)
	inParallel(n, func(i int) {
		if time.Now().After(stop) {
			return
		}
		c := p.open()
		defer c.Close()
		c.Write(mutate(rand.New(rand.NewPCG(seed, uint64(i)))))
		c.CloseWrite()
		_, err := io.Copy(io.Discard, c)
		if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
			p.t.Errorf("handshake %d is neither answered nor closed", i)
		}
	})
}

// mutate returns a handshake, with a frame after it, that random has changed.
func mutate(random *rand.Rand) []byte {
	text := strings.Replace(handshake, "/ws", fmt.Sprintf("/ws?last=%d&after=%d.%08x", random.Int64(), random.Int64(), random.Uint32()), random.IntN(2))
	lines := strings.SplitAfter(text, "\r\n")
	at := random.IntN(len(lines))
	lines[at] = strings.Repeat(lines[at], random.IntN(10))
	b := []byte(strings.Join(lines, "") + "\r\n\x81\x85\x01\x02\x03\x04iokho")
	for range random.IntN(50) * random.IntN(2) { // noise, in which there may be frames
		b = append(b, byte(random.Uint32()))
	}
	for range random.IntN(6) {
		at := random.IntN(len(b))
		b[at] ^= 1 << random.IntN(8)
		b = slices.Delete(b, at, min(len(b)-1, at+random.IntN(4)))
	}
	return b
}

// unfinished has n clients send a message of 50,000 bytes but for the last hundred.
func (p *testPod) unfinished(n int) {
	p.join(n, "\x81\xfe\xc3\x50\x00\x00\x00\x00"+strings.Repeat("x", 49_900), func() {
		most := float64(room.UnreadBytes + n*16<<10 + 64<<20) // 16 KiB a client, and what the collector has not freed yet
		if heap := p.metric("go_memstats_heap_alloc_bytes"); heap > most {
			p.t.Errorf("%.0f MiB of heap", heap/(1<<20))
		}
		waitFor(p.t, "a message that is given up", func() bool { // on a slow machine for its time, before the memory is used up
			return p.metric(`chat_rejects_total{reason="no_room"}`)+p.metric(`chat_rejects_total{reason="unfinished"}`) > 0
		})
	})
}

// floods has clients send as fast as they can what costs the server something, and read little or nothing.
func (p *testPod) floods(d time.Duration) {
	end := time.Now().Add(d)
	kinds := []struct{ head, flood string }{
		{rawHandshake, "\x89\x84\x00\x00\x00\x00ping"},
		{rawHandshake, "\x81\x85\x00\x00\x00\x00flood"},
		{chatHandshake, "\x81\x82\x00\x00\x00\x00{}"},
		{chatHandshake, "\x81\xbc\x00\x00\x00\x00" + `{"type":"message","id":"the-same-0123456789","text":"flood"}`},
		{pageRequest, pageRequest},
	}
	inParallel(4*len(kinds), func(i int) {
		kind := kinds[i/4]
		flood := []byte(strings.Repeat(kind.flood, 1+4096/len(kind.flood)))
		for time.Now().Before(end) { // whoever is thrown out comes again
			c := p.ask(kind.head)
			time.Sleep(10 * time.Millisecond) // frames before the whole answer would end the handshake
			c.SetDeadline(end)
			if i%2 == 0 {
				go io.Copy(io.Discard, c)
			}
			for err := error(nil); err == nil; {
				_, err = c.Write(flood)
			}
			c.Close()
		}
	})
}

// join opens n websockets, some at a time, and sends first on each; whoever is not let in is a fault. They end after do.
func (p *testPod) join(n int, first string, do func()) {
	conns := make([]net.Conn, n)
	inParallel(n, func(i int) {
		conns[i] = p.ask(chatHandshake)
		io.WriteString(conns[i], first) // some are closed before that has gone
	})
	do()
	for _, c := range conns {
		c.Close()
	}
}

// ask sends a request, whose answer has to begin well.
func (p *testPod) ask(request string) net.Conn {
	c := p.open()
	io.WriteString(c, request)
	answer := make([]byte, len("HTTP/1.1 101"))
	if io.ReadFull(c, answer); string(answer) != "HTTP/1.1 101" && string(answer) != "HTTP/1.1 200" {
		p.t.Errorf("a client is answered with %q", answer)
	}
	return c
}

// open opens a connection that ends with a reset: nothing of it stays in this machine.
func (p *testPod) open() *net.TCPConn {
	c, err := net.DialTimeout("tcp", p.host(), patience)
	if err != nil {
		p.t.Error(err)
		return new(net.TCPConn) // on which everything fails
	}
	c.SetDeadline(time.Now().Add(patience))
	c.(*net.TCPConn).SetLinger(0)
	return c.(*net.TCPConn)
}

// inParallel runs do for 0 to n-1, some at a time.
func inParallel(n int, do func(i int)) {
	some := make(chan struct{}, 32)
	var all sync.WaitGroup
	for i := range n {
		some <- struct{}{}
		all.Go(func() {
			do(i)
			<-some
		})
	}
	all.Wait()
}
