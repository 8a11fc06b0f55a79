package sockets

import (
	"context"
	"slices"
	"time"
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
	// comeBack is within what time a client shall come back. The spread is in the closing already.
	comeBack = 500 * time.Millisecond
)

// Drain closes all connections, evenly spread, each after a farewell message if it gets notices.
// It takes as long as their number needs, but no longer than limit, and returns when they are
// closed.
func (l *Loop) Drain(limit time.Duration, farewell func(comeBack time.Duration) []byte, code int, reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), max(0, limit-drainGrace))
	defer cancel()
	var conns []*Conn
	l.do(func() { conns = slices.Clone(l.conns) })
	window := drainPerClient * time.Duration(len(conns))
	if len(conns) >= drainFew {
		window = max(window, drainAtLeast)
	}
	window = min(window, max(0, limit-2*drainGrace))
	message := farewell(comeBack)
	step := window / time.Duration(max(1, len(conns)))
	at := time.Now()
	leave := func(c *Conn) {
		if c.opts.Notices {
			c.end(appendClose(AppendText(nil, message), code, reason))
		} else {
			c.Close(code, reason)
		}
	}
	for _, c := range conns {
		pause(ctx, time.Until(at))
		// After a stall of the machine it does not catch up in a burst.
		if at = at.Add(step); time.Since(at) > 2*step {
			at = time.Now()
		}
		leave(c)
	}
	// Nobody is told when the last connection is gone; a stopping pod may look. Some have come meanwhile.
	for end := time.Now().Add(drainGrace); l.Stats().Conns > 0 && time.Now().Before(end); {
		l.do(func() { conns = slices.Clone(l.conns) })
		for _, c := range conns {
			leave(c) // again for most, which does nothing
		}
		pause(context.Background(), 10*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
