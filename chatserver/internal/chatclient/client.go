// Package chatclient is test support: a chat.v1 client that behaves exactly as the page does, so
// that a test with hundreds of them sees what hundreds of people would see.
//
// The client's rules, in the page's words: the topic decides the order; a message of one's own
// waits in the outbox until the topic shows it; what is still there when the replay has ended is
// sent again with the same id; and where the history that would tell was lost, the person is
// asked. page/testdata/client.txt is the script that this client and the page's client.js both
// pass.
package chatclient

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Options say who the client is. Address and Observe are required.
type Options struct {
	// Address returns where the next attempt is to connect, as in ws://host:port/ws; "" is an
	// attempt that fails.
	Address func() string
	// Observe is told everything that happens, in order, by Run's goroutine.
	Observe func(Event)
	Name    string // of the person
	Seed    uint64 // of the ids and of the waits
	// Again is a person who decides at once: what is unsure is sent again, and what is refused is
	// removed. Without it, both wait for Decide.
	Again bool
	// ReadBuffer is the size of the socket's receive buffer; 0 leaves it to the kernel.
	ReadBuffer int

	dial dial           // of a test; nil: TCP
	dice func() float64 // of a test; nil: from Seed
}

// An Event is one thing that happened to a client. Fields that its kind does not name are empty.
type Event struct {
	Kind     Kind
	At       time.Time
	ID       string
	Offset   int64
	Position string
	Pod      string
	Reason   string
}

// Kind is what happened.
type Kind uint8

const (
	Said     Kind = iota // ID: the person has written it
	Sent                 // ID: it was given to a socket
	Welcomed             // Pod, Position; Reason is "" if the pod goes on where the client was
	Message              // Offset, ID ("" if it has none)
	Live                 // Position
	Acked                // ID, Offset
	Rejected             // ID, Reason
	Gap                  // in the stream
	Reset                // in the stream
	Unsure               // ID: the person was asked whether to send it again
	SentAway             // the pod asked to come back
	Left                 // a connection on which the pod had said welcome has ended
)

const (
	// history is how many messages a client asks for when it comes for the first time.
	history = 100
	// mostPending is how many messages may wait in the outbox.
	mostPending = 40

	check   = 5 * time.Second  // between two looks whether the connection is alive
	overdue = 20 * time.Second // the age of the oldest sent message that is a reason to connect anew
	silence = 60 * time.Second // and that of the last frame: a pod sends a status each 25 s at the latest
)

// Client is one person with one page. Run runs it; the other methods may be called by anybody
// while Run runs, and do nothing after it.
type Client struct {
	opt      Options
	commands chan func()   // for Run's goroutine
	done     chan struct{} // closed when Run has returned
	reading  gate

	// Owned by Run.
	rng        *rand.Rand
	outbox     []*entry // in the order of writing
	position   string
	lastOffset int64
	kafkaUp    bool
	pings      bool // the pod sends a status with each ping
	line       line

	mu     sync.Mutex // guards the following
	status Status
}

// Status is how far a client is.
type Status struct {
	Live    bool // caught up with a pod
	Pending int  // messages in the outbox
	LastID  string
}

type state uint8

const (
	waiting state = iota // never given to a socket
	sent                 // given to a socket: it may be in the topic
	unsure               // was sent, and the history that would tell was lost; the person decides
	stored               // acked; its message event is on the way
	refused              // will never appear
)

type entry struct {
	id, text string
	state    state
	again    bool      // it was sent before
	sentAt   time.Time // of the last time
	offset   int64     // of what is stored
}

// New returns a client that does nothing until Run runs.
func New(opt Options) *Client {
	c := &Client{
		opt:        opt,
		commands:   make(chan func()),
		done:       make(chan struct{}),
		rng:        rand.New(rand.NewPCG(opt.Seed, 1)),
		lastOffset: -1,
		kafkaUp:    true,
	}
	c.line = line{client: c}
	if c.opt.dice == nil {
		c.opt.dice = c.rng.Float64
	}
	if c.opt.dial == nil {
		c.opt.dial = c.dialTCP
	}
	return c
}

// Run keeps the client connected until ctx ends.
func (c *Client) Run(ctx context.Context) {
	defer close(c.done)
	c.line.ctx = ctx
	c.line.open()
	defer c.line.stop()
	ticker := time.NewTicker(check)
	defer ticker.Stop()
	for {
		select {
		case do := <-c.commands:
			do()
		case frame, ok := <-c.line.frames():
			if ok {
				c.hear(frame)
			} else {
				c.line.closed()
			}
		case <-c.line.timer.C:
			c.line.due()
		case <-ticker.C:
			c.lookForDeath()
		case answer := <-c.line.answers:
			c.line.answered(answer)
		case <-ctx.Done():
			return
		}
		c.publishStatus()
	}
}

// Say writes a message. It returns false if too many wait already.
func (c *Client) Say(text string) (ok bool) {
	c.do(func() {
		if len(c.outbox) >= mostPending {
			return
		}
		ok = true
		e := &entry{id: c.newID(), text: text}
		c.outbox = append(c.outbox, e)
		c.observe(Event{Kind: Said, ID: e.id})
		if c.line.ready() {
			c.send(e)
		}
	})
	return ok
}

// Decide says what becomes of an unsure or refused message: it is sent again, or removed. An unsure
// one keeps its id; a refused one is done with, and the new attempt is a new message.
func (c *Client) Decide(id string, again bool) {
	c.do(func() {
		i := slices.IndexFunc(c.outbox, func(e *entry) bool { return e.id == id })
		if i < 0 {
			return
		}
		e := c.outbox[i]
		if !again || e.state == refused {
			c.remove(id)
		}
		if again && e.state == refused {
			e = &entry{id: c.newID(), text: e.text}
			c.outbox = append(c.outbox, e)
			c.observe(Event{Kind: Said, ID: e.id})
		}
		e.state = waiting
		if c.line.ready() {
			c.sendAll(waiting)
		}
	})
}

// Cut breaks the connection, as a network does.
func (c *Client) Cut() { c.do(func() { c.line.cut() }) }

// Hop connects anew at once, as the page's "Reconnect now" does.
func (c *Client) Hop() { c.do(c.line.open) }

// Read says whether the client reads what it is sent; at first it does.
func (c *Client) Read(on bool) { c.reading.set(on) }

// Status returns how far the client is.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// do has Run's goroutine run f.
func (c *Client) do(f func()) {
	ran := make(chan struct{})
	select {
	case c.commands <- func() {
		f()
		c.publishStatus() // who has asked sees what became of it
		close(ran)
	}:
		<-ran
	case <-c.done:
	}
}

func (c *Client) publishStatus() {
	c.mu.Lock()
	c.status.Live, c.status.Pending = c.line.phase == live, len(c.outbox)
	c.mu.Unlock()
}

func (c *Client) observe(e Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	c.opt.Observe(e)
}

func (c *Client) newID() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(c.rng.Uint32())
	}
	return hex.EncodeToString(b[:])
}
