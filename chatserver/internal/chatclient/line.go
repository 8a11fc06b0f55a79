package chatclient

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
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
	// patience is how long the handshake up to the welcome may take, and then each frame until "live".
	patience = 10 * time.Second
	// askAfter so many failures each attempt asks by HTTP first.
	askAfter = 2
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
	timer    alarm   // gives the attempt up, or opens
	phase    phase
	failures int
	opened   time.Time
	heard    time.Time // the last frame
	asked    bool      // the pod asked us to come back, and the timer is set to that

	answers chan int           // the status that the question by HTTP got, 0 for none; nil: none is asked
	giveUp  context.CancelFunc // of the question
}

// ready says whether the pod takes messages.
func (l *line) ready() bool { return l.phase == live && !l.asked }

// open opens a new connection now, whatever there was before.
func (l *line) open() {
	l.letGo(false)
	l.opened = time.Now()
	l.heard = l.opened
	l.timer.set(patience)
	address := l.client.opt.Address()
	switch {
	case address == "":
		l.closed()
	case l.failures >= askAfter:
		l.ask(address)
	default:
		l.dial(address)
	}
}

// ask asks by HTTP whether there is anything at the address.
func (l *line) ask(address string) {
	ctx, cancel := context.WithCancel(l.ctx)
	answers := make(chan int, 1) // so that the one who asks need not wait
	l.answers, l.giveUp = answers, cancel
	l.sockets.Go(func() {
		defer cancel()
		answers <- question(ctx, l.client.opt.dial, "http"+strings.TrimPrefix(address, "ws"))
	})
}

// answered goes on with a question's answer. Some come before a websocket would: from a proxy
// without a pod, or from a pod that takes nobody.
func (l *line) answered(status int) {
	l.answers = nil
	switch status {
	case 0, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		l.closed()
		return
	}
	if address := l.client.opt.Address(); address != "" {
		l.dial(address)
	} else {
		l.closed()
	}
}

func (l *line) dial(address string) {
	c := l.client
	query := url.Values{}
	if c.position != "" {
		query.Set("after", c.position)
	} else {
		query.Set("last", strconv.Itoa(history))
	}
	l.socket = newSocket(l.ctx, c.opt.dial, &c.reading)
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
		l.closed() // no welcome in time, or no frame after it
	} else if l.answers != nil {
		l.closed() // no answer in time
	} else {
		l.open()
	}
}

func (l *line) welcomed() { l.phase = replaying }

func (l *line) caughtUp() {
	l.phase = live
	if !l.asked {
		l.timer.stop()
	}
}

// patient: each frame until "live" gives the pod more time; while it waits for Kafka, up to the next status.
func (l *line) patient() {
	switch {
	case l.phase != replaying || l.asked:
	case l.client.kafkaUp:
		l.timer.set(patience)
	default:
		l.timer.set(silence)
	}
}

// leave: all of a pod's clients hear this at once, so each picks a moment of its own.
func (l *line) leave(within time.Duration) {
	l.asked = true
	l.timer.set(l.random(within))
}

// closed: the connection has ended, or did not come about.
func (l *line) closed() { l.end(false) }

func (l *line) end(abruptly bool) {
	if l.asked {
		l.drop(abruptly)
		return // the time to come back is set
	}
	l.letGo(abruptly)
	limit := maxBackoff
	if l.failures < 10 {
		limit = min(maxBackoff, backoff<<l.failures)
	}
	l.failures++
	l.timer.set(l.random(limit))
}

// cut breaks the connection as a network does: nothing that was on its way arrives.
func (l *line) cut() {
	if l.socket != nil {
		l.end(true)
	}
}

func (l *line) letGo(abruptly bool) {
	if l.answers != nil {
		l.giveUp()
		l.answers = nil
	}
	l.timer.stop()
	l.asked = false
	l.drop(abruptly)
}

func (l *line) drop(abruptly bool) {
	if l.socket == nil {
		return
	}
	if l.phase == live && time.Since(l.opened) > goodAfter {
		l.failures = 0
	}
	l.socket.end(abruptly)
	l.socket = nil
	if l.phase != closed {
		l.phase = closed
		l.client.observe(Event{Kind: Left})
	}
}

// stop ends everything, and waits for it.
func (l *line) stop() {
	l.letGo(false)
	l.sockets.Wait()
}

func (l *line) write(message []byte) { l.socket.write(message) }

func (l *line) random(limit time.Duration) time.Duration {
	return time.Duration(l.client.opt.dice() * float64(limit))
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
