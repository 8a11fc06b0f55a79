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
	"math/rand/v2"
	"slices"
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
	Kind   Kind
	At     time.Time
	ID     string
	Offset int64
	Pod    string
	Reason string
}

// Kind is what happened: the name of a pod's event, or a word of the client's own.
type Kind string

const (
	Welcomed Kind = "welcome" // Pod; Reason is "" if the pod goes on where the client was
	Message  Kind = "message" // Offset, ID ("" if it has none)
	Live     Kind = "live"
	Acked    Kind = "ack"       // ID, Offset
	Rejected Kind = "reject"    // ID, Reason
	Gap      Kind = "gap"       // in the stream
	Reset    Kind = "reset"     // in the stream
	SentAway Kind = "reconnect" // the pod asked to come back

	Said   Kind = "said"   // ID: the person has written it
	Sent   Kind = "sent"   // ID: it was given to a socket
	Unsure Kind = "unsure" // ID: the person was asked whether to send it again
	Left   Kind = "left"   // a connection on which the pod had said welcome has ended
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

	// Owned by Run.
	rng        *rand.Rand
	outbox     []*entry // in the order of writing
	position   string
	lastOffset int64
	lastID     string
	kafkaUp    bool
	pings      bool // the pod sends a status with each ping
	deaf       bool // the person does not read
	connection
}

// Status is how far a client is.
type Status struct {
	Live    bool // caught up with a pod
	Pending int  // messages in the outbox
	LastID  string
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
	c.timer = time.NewTimer(time.Hour)
	c.timer.Stop()
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
	defer c.sockets.Wait()
	defer c.letGo(false)
	c.open()
	ticker := time.NewTicker(check)
	defer ticker.Stop()
	for {
		var frames <-chan []byte // nil: there is no socket, or the person does not read
		if c.socket != nil && !c.deaf {
			frames = c.socket.in
		}
		select {
		case do := <-c.commands:
			do()
		case frame, ok := <-frames:
			if ok {
				c.hear(frame)
			} else {
				c.closed(false)
			}
		case <-c.timer.C:
			if c.socket != nil && !c.asked {
				c.closed(false) // no welcome in time, or no frame after it
			} else {
				c.open()
			}
		case <-ticker.C:
			c.lookForDeath()
		case <-ctx.Done():
			return
		}
	}
}

// Say writes a message. It returns false if too many wait already.
func (c *Client) Say(text string) (ok bool) {
	c.do(func() {
		if ok = len(c.outbox) < mostPending; ok {
			c.add(text)
			c.sendAll(waiting)
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
			c.add(e.text)
		}
		e.state = waiting
		c.sendAll(waiting)
	})
}

// Cut breaks the connection, as a network does: nothing that was on its way arrives.
func (c *Client) Cut() {
	c.do(func() {
		if c.socket != nil {
			c.closed(true)
		}
	})
}

// Hop connects anew at once, as the page's "Reconnect now" does.
func (c *Client) Hop() { c.do(c.open) }

// Read says whether the client reads what it is sent; at first it does.
func (c *Client) Read(on bool) { c.do(func() { c.deaf = !on }) }

// Status returns how far the client is.
func (c *Client) Status() (s Status) {
	c.do(func() { s = Status{Live: c.phase == live, Pending: len(c.outbox), LastID: c.lastID} })
	return s
}

// do has Run's goroutine run f.
func (c *Client) do(f func()) {
	ran := make(chan struct{})
	select {
	case c.commands <- func() { f(); close(ran) }:
		<-ran
	case <-c.done:
	}
}

func (c *Client) observe(e Event) {
	e.At = time.Now()
	c.opt.Observe(e)
}
