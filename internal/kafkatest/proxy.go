package kafkatest

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Proxy stands between clients and a Kafka of one or more brokers, and makes their connections fail
// as a test wishes. It puts its own addresses into metadata, one for each broker: clients always
// connect to the proxy. The proxy speaks plain text only. On each connection it answers one request
// after another, as Kafka does. Its methods may be called at any time.
type Proxy struct {
	t    testing.TB
	addr string
	ctx  context.Context // of listeners and connections
	wg   sync.WaitGroup  // of all goroutines

	mu        sync.Mutex                 // guards the following
	listeners map[string]net.Listener    // by the broker's address
	conns     map[int]context.CancelFunc // that are open, by number
	opened    int                        // number of connections until now
	refusing  bool
	paused    Direction
	resumed   chan struct{} // closed and replaced when paused changes

	faultMu sync.Mutex // held while fault runs: its calls come one at a time
	fault   func(Request) Action
}

// Request is one request of a client, as a fault sees it.
type Request struct {
	Key    kmsg.Key
	Client string // the client id
	Conn   int    // the connection's number, from 0
	N      int    // the request's number on its connection, from 0
}

// Action is what happens to a request. The zero value passes the request on, and its answer back.
type Action struct {
	Delay     time.Duration // wait before passing it on; later requests of the connection wait too
	CutBefore bool          // cut the connection instead of passing it on: Kafka never sees the request
	NotLeader bool          // only Produce and Fetch: answer NOT_LEADER_OR_FOLLOWER instead of passing it on

	DelayAnswer time.Duration // wait before passing the answer back; later answers wait too
	CutAfter    bool          // cut the connection instead of passing the answer back: Kafka has done what was asked
}

// Direction is a set of directions.
type Direction int

const (
	Requests Direction = 1 << iota // from clients to Kafka
	Answers                        // from Kafka to clients
	Both     = Requests | Answers
)

// NewProxy returns a proxy in front of brokers (host:port, several with commas). The proxy ends
// with the test.
func NewProxy(t testing.TB, brokers string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, listeners: make(map[string]net.Listener), conns: make(map[int]context.CancelFunc), resumed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	t.Cleanup(func() {
		cancel()
		p.wg.Wait()
	})
	var addrs []string
	for broker := range strings.SplitSeq(brokers, ",") {
		addr, err := p.listen(broker)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, addr)
	}
	p.addr = strings.Join(addrs, ",")
	return p
}

// Addr is the address that clients use for Kafka's brokers: host:port, several with commas.
func (p *Proxy) Addr() string { return p.addr }

// SetFault makes fault decide about each request from now on; nil means the zero Action. The calls
// of fault come one at a time, so fault may count. Fault must not wait.
func (p *Proxy) SetFault(fault func(Request) Action) {
	p.faultMu.Lock()
	defer p.faultMu.Unlock()
	p.fault = fault
}

// Cut ends all connections. New ones may be made at once.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for number, cut := range p.conns {
		cut()
		delete(p.conns, number)
	}
}

// Refuse sets whether new connections end as soon as they are made. Existing ones stay.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = on
}

// Pause stops the flow in these directions. Connections stay open, and new ones can be made: to
// clients, the broker hangs.
func (p *Proxy) Pause(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = d
	close(p.resumed)
	p.resumed = make(chan struct{})
}

// Resume lets everything flow again. Nothing was lost.
func (p *Proxy) Resume() { p.Pause(0) }

// Conns is the number of connections that are open.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// listen returns the proxy's address for the broker at target.
func (p *Proxy) listen(target string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ln, known := p.listeners[target]; known {
		return ln.Addr().String(), nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	p.listeners[target] = ln
	context.AfterFunc(p.ctx, func() { ln.Close() })
	p.wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.connect(client, target) })
		}
	})
	return ln.Addr().String(), nil
}

// connect serves one connection to its end.
func (p *Proxy) connect(client net.Conn, target string) {
	defer client.Close()
	ctx, cut := context.WithCancel(p.ctx)
	defer cut()
	p.mu.Lock()
	number, refused := p.opened, p.refusing
	p.opened++
	p.conns[number] = cut
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, number)
		p.mu.Unlock()
	}()
	if refused {
		return
	}
	broker, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer broker.Close()
	defer context.AfterFunc(ctx, func() {
		client.Close()
		broker.Close()
	})()
	for n := 0; err == nil; n++ {
		err = p.exchange(ctx, client, broker, Request{Conn: number, N: n})
	}
}

var errCut = errors.New("cut by the fault")

// exchange passes a request on, and its answer back. An error ends the connection.
func (p *Proxy) exchange(ctx context.Context, client, broker net.Conn, r Request) error {
	frame, err := readFrame(client)
	if err != nil {
		return err
	}
	var body kmsg.Request
	r.Key, r.Client, body = parseRequest(frame)
	p.faultMu.Lock()
	var action Action
	if p.fault != nil {
		action = p.fault(r)
	}
	p.faultMu.Unlock()
	if err := wait(ctx, action.Delay); err != nil || action.CutBefore {
		return cmp.Or(err, errCut)
	}
	var answer []byte
	if action.NotLeader {
		answer, err = notLeader(frame, body)
	} else {
		if err = p.pass(ctx, Requests); err == nil {
			_, err = broker.Write(frame)
		}
		if produce, ok := body.(*kmsg.ProduceRequest); err == nil && (!ok || produce.Acks != 0) {
			answer, err = readFrame(broker)
		}
	}
	if err == nil {
		err = wait(ctx, action.DelayAnswer)
	}
	if err != nil || action.CutAfter {
		return cmp.Or(err, errCut)
	}
	if answer, err = p.rewrite(body, answer); err == nil {
		err = p.pass(ctx, Answers)
	}
	if err == nil {
		_, err = client.Write(answer)
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// pass waits until d is not paused. An error says that the connection has been cut: its sockets may
// be closed a moment later.
func (p *Proxy) pass(ctx context.Context, d Direction) error {
	for {
		p.mu.Lock()
		paused, resumed := p.paused&d != 0, p.resumed
		p.mu.Unlock()
		if !paused {
			return ctx.Err()
		}
		select {
		case <-resumed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
