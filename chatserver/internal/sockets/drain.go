package sockets

import (
	"context"
	"slices"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

const (
	// drainPerClient spreads the closing of many connections, so that the other pods do not get all
	// the clients at once.
	drainPerClient = 5 * time.Millisecond
	// With drainFew connections or more, drainAtLeast keeps the share that is closed in any tenth
	// of a second below a tenth.
	drainFew     = 10
	drainAtLeast = 1200 * time.Millisecond
	// drainGrace is the time for the peers to take and answer the last close frames.
	drainGrace = closeWait + 500*time.Millisecond
)

// Drain closes all connections with 1012, evenly spread over time. A connection that gets notices
// is sent the payload first. A connection that is added meanwhile is closed at once. The time grows
// with the number of connections, up to limit less drainGrace. In the last part of limit, drainGrace,
// Run waits for the last connections after its context has ended.
func (l *Loop) Drain(limit time.Duration, payload []byte, reason string) {
	limit = max(0, limit-drainGrace)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	leave := func(c *Conn) {
		var frames []byte
		if c.opts.Notices {
			frames = AppendText(nil, payload)
		}
		c.end(appendClose(frames, websocket.CloseServiceRestart, reason))
	}
	there := make(chan []*Conn, 1)
	if !l.post(func() { l.leave = leave; there <- slices.Clone(l.conns) }) {
		return
	}
	conns := <-there
	window := drainPerClient * time.Duration(len(conns))
	if len(conns) >= drainFew {
		window = max(window, drainAtLeast)
	}
	window = min(window, limit*9/10)
	// After a stall of the machine, pace does not catch up in a burst, except at the end of limit.
	pace := rate.NewLimiter(rate.Every(window/time.Duration(max(1, len(conns)))), 1)
	for _, c := range conns {
		pace.Wait(ctx)
		leave(c)
	}
}
