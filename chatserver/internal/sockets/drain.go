package sockets

import (
	"context"
	"slices"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

const (
	// drainPerClient spreads the closing of many connections, so that the servers to which they go
	// next are not stormed.
	drainPerClient = 5 * time.Millisecond
	// Of more than a few connections, drainAtLeast keeps those that are closed in any tenth of a
	// second below a tenth.
	drainFew     = 10
	drainAtLeast = 1200 * time.Millisecond
	// drainGrace is for the last close frames to be taken and answered.
	drainGrace = closeWait + 500*time.Millisecond
)

// Drain closes all connections, evenly spread, each after the payload if it gets notices; those
// that come meanwhile are closed at once, all with 1012. It takes as long as their number needs, but
// leaves, of limit, what the last need to be closed, for which Run waits when its context has ended.
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
	// After a stall of the machine this does not catch up in a burst, except at the end of limit.
	pace := rate.NewLimiter(rate.Every(window/time.Duration(max(1, len(conns)))), 1)
	for _, c := range conns {
		pace.Wait(ctx)
		leave(c)
	}
}
