package chatclient

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// Full jitter: attempt n waits between 0 and backoff * 2^n, at most maxBackoff.
	backoff    = 250 * time.Millisecond
	maxBackoff = 10 * time.Second
	// goodAfter is the age of a connection whose end is not held against the pods: the next wait
	// is short again.
	goodAfter = 5 * time.Second
	// handshake is how long the pod may take to say welcome.
	handshake = 10 * time.Second
)

type phase uint8

const (
	closed phase = iota
	replaying
	live
)

// A line is the connection, and when to open the next one. It is owned by Run.
type line struct {
	client   *Client
	ctx      context.Context
	sockets  sync.WaitGroup
	socket   *socket // nil between two attempts
	timer    alarm   // gives the handshake up, or opens
	phase    phase
	attempts int
	opened   time.Time
	asked    bool // the pod asked us to come back, and the timer is set to that
}

// ready says whether the pod takes messages.
func (l *line) ready() bool { return l.phase == live && !l.asked }

// open opens a new connection now, whatever there was before.
func (l *line) open() {
	l.letGo(false)
	l.opened = time.Now()
	c := l.client
	query := url.Values{}
	if c.position != "" {
		query.Set("after", c.position)
	} else {
		query.Set("last", strconv.Itoa(history))
	}
	l.timer.set(handshake)
	address := c.opt.Address()
	if address == "" {
		l.closed()
		return
	}
	l.socket = newSocket(l.ctx, c.opt.ReadBuffer, &c.reading)
	s := l.socket
	l.sockets.Go(func() { s.run(address + "?" + query.Encode()) })
}

func (l *line) frames() <-chan frame {
	if l.socket == nil {
		return nil
	}
	return l.socket.in
}

// due is called when the timer has fired.
func (l *line) due() {
	l.timer.stop()
	if l.socket != nil && !l.asked {
		l.closed() // no welcome in time
	} else {
		l.open()
	}
}

func (l *line) welcomed() {
	l.timer.stop()
	l.phase = replaying
}

func (l *line) caughtUp() { l.phase = live }

// leave: all of a pod's clients hear this at once, so each picks a moment of its own.
func (l *line) leave(within time.Duration) {
	l.asked = true
	l.timer.set(l.random(within))
}

// closed: the connection has ended, or did not come about.
func (l *line) closed() {
	if time.Since(l.opened) > goodAfter {
		l.attempts = 0
	}
	if l.asked {
		l.drop(false)
		return // the time to come back is set
	}
	l.letGo(false)
	limit := maxBackoff
	if l.attempts < 10 {
		limit = min(maxBackoff, backoff<<l.attempts)
	}
	l.attempts++
	l.timer.set(l.random(limit))
}

func (l *line) break_() {
	if l.socket != nil {
		l.drop(true)
		l.closed()
	}
}

func (l *line) letGo(abruptly bool) {
	l.timer.stop()
	l.asked = false
	l.drop(abruptly)
}

func (l *line) drop(abruptly bool) {
	if l.socket == nil {
		return
	}
	l.socket.end(abruptly)
	l.socket = nil
	if l.phase != closed {
		l.phase = closed
		l.client.observe(Event{Kind: Left})
	}
}

// end ends everything, and waits for it.
func (l *line) end() {
	l.letGo(false)
	l.sockets.Wait()
}

func (l *line) write(message []byte) { l.socket.write(message) }

func (l *line) random(limit time.Duration) time.Duration {
	return time.Duration(l.client.rng.Int64N(int64(max(limit, 1))))
}

// An alarm is a timer that may not be set; its zero value is not.
type alarm struct {
	C     <-chan time.Time
	timer *time.Timer
}

func (a *alarm) set(d time.Duration) {
	a.stop()
	a.timer = time.NewTimer(d)
	a.C = a.timer.C
}

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.C = nil
}

// A socket is one attempt, and the connection that it may lead to.
type socket struct {
	in         chan frame  // closed when the connection has ended
	out        chan []byte // what it holds is lost when the connection ends
	ctx        context.Context
	cancel     context.CancelFunc
	readBuffer int
	reading    *gate

	mu       sync.Mutex // guards the following
	conn     net.Conn
	abruptly bool
}

type frame struct {
	data []byte
	at   time.Time
}

// mostOut is more than can be on its way: the outbox, each of which may be sent again once.
const mostOut = 4 * mostPending

func newSocket(ctx context.Context, readBuffer int, reading *gate) *socket {
	s := &socket{in: make(chan frame, 64), out: make(chan []byte, mostOut), readBuffer: readBuffer, reading: reading}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// run connects and reads until the connection ends.
func (s *socket) run(address string) {
	defer close(s.in)
	defer s.cancel()
	dialer := websocket.Dialer{
		Subprotocols:     []string{"chat.v1"},
		HandshakeTimeout: handshake,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if tcp, ok := conn.(*net.TCPConn); ok && s.readBuffer > 0 {
				tcp.SetReadBuffer(s.readBuffer)
			}
			return conn, err
		},
	}
	ws, _, err := dialer.DialContext(s.ctx, address, nil)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.conn = ws.NetConn()
	s.mu.Unlock()
	var writer sync.WaitGroup
	writer.Go(func() { s.writeAll(ws) })
	defer writer.Wait()
	defer s.cancel()
	for {
		if s.reading.wait(s.ctx) != nil {
			return
		}
		_, data, err := ws.ReadMessage()
		if err != nil {
			return
		}
		select {
		case s.in <- frame{data, time.Now()}:
		case <-s.ctx.Done():
			return
		}
	}
}

// writeAll writes until the socket's end, and then ends the connection.
func (s *socket) writeAll(ws *websocket.Conn) {
	const patience = 10 * time.Second
	defer ws.Close()
	for {
		select {
		case message := <-s.out:
			ws.SetWriteDeadline(time.Now().Add(patience))
			if ws.WriteMessage(websocket.TextMessage, message) != nil {
				return
			}
		case <-s.ctx.Done():
			s.mu.Lock()
			abruptly := s.abruptly
			s.mu.Unlock()
			if tcp, ok := s.conn.(*net.TCPConn); ok && abruptly {
				tcp.SetLinger(0) // a reset: what is on its way is lost in both directions
				return
			}
			ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""),
				time.Now().Add(time.Second))
			return
		}
	}
}

// write gives a message to the connection; it is lost if the connection ends first.
func (s *socket) write(message []byte) {
	select {
	case s.out <- message:
	default:
		s.cancel() // the other side takes nothing
	}
}

func (s *socket) end(abruptly bool) {
	s.mu.Lock()
	s.abruptly = abruptly
	s.mu.Unlock()
	s.cancel()
}

// A gate stops readers while it is shut; its zero value is open.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil: open; closed when it opens
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open && g.shut != nil:
		close(g.shut)
		g.shut = nil
	case !open && g.shut == nil:
		g.shut = make(chan struct{})
	}
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		return nil
	}
	select {
	case <-shut:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
