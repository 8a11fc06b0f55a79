package chatclient

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// A socket is one attempt, and the connection that it may lead to.
type socket struct {
	in      chan frame  // closed when the connection has ended
	out     chan []byte // what it holds is lost when the connection ends
	ctx     context.Context
	cancel  context.CancelFunc
	dial    dial
	reading *gate

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

type dial = func(ctx context.Context, network, addr string) (net.Conn, error)

func (c *Client) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if tcp, ok := conn.(*net.TCPConn); ok && c.opt.ReadBuffer > 0 {
		tcp.SetReadBuffer(c.opt.ReadBuffer)
	}
	return conn, err
}

// question returns the status with which an address answers a request for no websocket, 0 for none.
func question(ctx context.Context, dial dial, address string) (status int) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

func newSocket(ctx context.Context, dial dial, reading *gate) *socket {
	s := &socket{in: make(chan frame, 64), out: make(chan []byte, mostOut), dial: dial, reading: reading}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// run connects and reads until the connection ends.
func (s *socket) run(address string) {
	defer close(s.in)
	defer s.cancel()
	dialer := websocket.Dialer{
		Subprotocols:     []string{"chat.v1"},
		HandshakeTimeout: patience,
		NetDialContext:   s.dial,
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
