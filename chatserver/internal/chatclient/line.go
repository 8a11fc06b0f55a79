package chatclient

import (
	"context"
	"net/url"
	"strconv"
	"sync"
	"time"
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

// cut breaks the connection as a network does: nothing that was on its way arrives.
func (l *line) cut() {
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
