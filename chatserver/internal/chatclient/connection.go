package chatclient

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	backoff    = 250 * time.Millisecond // attempt n waits between 0 and backoff * 2^n, at most maxBackoff
	maxBackoff = 10 * time.Second
	goodAfter  = 5 * time.Second  // the age of a connection after which the next wait is short again
	patience   = 10 * time.Second // for the handshake up to the welcome, and then for each frame until "live"
	askAfter   = 2                // failures, after which each attempt asks by HTTP first
)

type phase uint8

const (
	away phase = iota
	replaying
	live
)

// A connection is the state of a client's connection, and the timer for the next. Run owns it.
type connection struct {
	sockets  sync.WaitGroup
	socket   *socket     // nil between two attempts
	timer    *time.Timer // gives the attempt up, or opens
	phase    phase
	failures int
	opened   time.Time
	heard    time.Time // the last frame
	asked    bool      // the pod asked the client to come back, and the timer is set for that
}

// open ends the old connection, if any, and opens a new one now.
func (c *Client) open() {
	c.drop(false)
	c.asked, c.opened, c.heard = false, time.Now(), time.Now()
	c.timer.Reset(patience)
	address := c.opt.Address()
	if address == "" {
		c.closed(false)
		return
	}
	query := url.Values{"last": {strconv.Itoa(history)}}
	if c.position != "" {
		query = url.Values{"after": {c.position}}
	}
	s, ask := &socket{dial: c.opt.dial, in: make(chan []byte)}, c.failures >= askAfter
	s.ctx, s.cancel = context.WithCancel(context.Background())
	c.socket = s
	c.sockets.Go(func() { s.run(address, query, ask) })
}

// openIn opens a connection at a random time within limit.
func (c *Client) openIn(limit time.Duration) {
	c.timer.Reset(time.Duration(c.opt.dice() * float64(limit)))
}

// closed is called when the connection has ended, or could not be opened.
func (c *Client) closed(abruptly bool) {
	c.drop(abruptly)
	if !c.asked { // then the time to come back is set
		c.openIn(min(maxBackoff, backoff<<min(c.failures, 10)))
		c.failures++
	}
}

func (c *Client) drop(abruptly bool) {
	if c.socket == nil {
		return
	}
	if c.phase == live && time.Since(c.opened) > goodAfter {
		c.failures = 0
	}
	c.socket.end(abruptly)
	c.socket = nil
	if c.phase != away {
		c.phase = away
		c.observe(Event{Kind: Left})
	}
}

type dial = func(ctx context.Context, network, addr string) (net.Conn, error)

func (c *Client) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if tcp, ok := conn.(*net.TCPConn); ok && c.opt.ReadBuffer > 0 {
		tcp.SetReadBuffer(c.opt.ReadBuffer)
	}
	return conn, err
}

// A socket is one attempt, and the websocket that it may lead to.
type socket struct {
	dial   dial
	in     chan []byte // frames; closed when the attempt has ended
	ctx    context.Context
	cancel context.CancelFunc
	ws     atomic.Pointer[websocket.Conn] // nil until it is open
}

// run connects, with ask only after an answer by HTTP, and reads until the connection ends.
func (s *socket) run(address string, query url.Values, ask bool) {
	defer close(s.in)
	defer s.cancel()
	if ask && !s.served("http"+strings.TrimPrefix(address, "ws")) {
		return
	}
	dialer := websocket.Dialer{Subprotocols: []string{"chat.v1"}, HandshakeTimeout: patience, NetDialContext: s.dial}
	ws, _, err := dialer.DialContext(s.ctx, address+"?"+query.Encode(), nil)
	if err != nil {
		return
	}
	s.ws.Store(ws)
	context.AfterFunc(s.ctx, func() { ws.Close() })
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		select {
		case s.in <- frame:
		case <-s.ctx.Done():
			return
		}
	}
}

// served returns whether a pod at an address may take a websocket. A proxy without a pod, or a pod
// that admits no client, answers with an error status.
func (s *socket) served(address string) bool {
	request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, address, nil)
	if err != nil {
		return false
	}
	transport := &http.Transport{DialContext: s.dial, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return !slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, response.StatusCode)
}

// write gives a message to the kernel; it is lost if the connection ends first.
func (s *socket) write(message any) {
	ws := s.ws.Load()
	ws.SetWriteDeadline(time.Now().Add(time.Second))
	if ws.WriteJSON(message) != nil {
		s.cancel() // the other side takes nothing
	}
}

// end ends the attempt. Abruptly is a reset: what is on its way is lost in both directions.
func (s *socket) end(abruptly bool) {
	if ws := s.ws.Load(); ws != nil {
		if tcp, ok := ws.NetConn().(*net.TCPConn); ok && abruptly {
			tcp.SetLinger(0)
		} else {
			ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
		}
	}
	s.cancel()
}
