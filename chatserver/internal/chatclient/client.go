// Package chatclient is test support: a chat.v1 client that behaves exactly as the page does, so
// that a test with hundreds of clients sees what hundreds of people would see.
//
// The rules are those of the page. The topic decides the order. A client's own message waits in the
// outbox until the topic shows it. A sent message that is still there after the replay is sent
// again with the same id. If the history that would show its fate was lost, the person is asked.
// This client and the page's client.js both pass the script page/testdata/client.txt.
package chatclient

import (
	"context"
	"math/rand/v2"
	"time"
)

// Options describe the client. Address and Observe are required.
type Options struct {
	Address    func() string // of the next attempt, as in ws://host:port/ws; "" is an attempt that fails
	Observe    func(Event)   // is called by Run's goroutine for each event, in order
	Name       string        // of the person
	Seed       uint64        // of the ids and of the waits
	Again      bool          // unsure messages are sent again, and refused ones removed, at once; false: both wait for Decide
	ReadBuffer int           // of the socket, in bytes; 0 leaves it to the kernel

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

// Kind is the name of a pod's event, or of an event of the client itself.
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
	history     = 100              // messages that a client asks for at first
	mostPending = 40               // messages in the outbox
	check       = 5 * time.Second  // between two checks of the connection
	overdue     = 20 * time.Second // the age of the oldest sent message that is a reason to connect anew
	silence     = 60 * time.Second // and that of the last frame: a pod sends a status at least every 25 s
)

// Client is one person with one page. Any goroutine may call the methods while Run runs; after it
// they do nothing.
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

// Status is the progress of a client.
type Status struct {
	Live    bool // caught up with a pod
	Pending int  // messages in the outbox
	LastID  string
}

// New returns a client that does nothing until Run runs.
func New(opt Options) *Client {
	c := &Client{
		opt: opt, commands: make(chan func()), done: make(chan struct{}),
		rng: rand.New(rand.NewPCG(opt.Seed, 1)), lastOffset: -1, kafkaUp: true,
	}
	c.timer = time.NewTimer(time.Hour)
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
	defer c.drop(false)
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

// Decide sends an unsure or refused message again, or removes it. An unsure message keeps its id. A
// refused message is sent as a new message.
func (c *Client) Decide(id string, again bool) {
	c.do(func() {
		e := c.find(id)
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

// Read sets whether the client reads from its socket; at first it does.
func (c *Client) Read(on bool) { c.do(func() { c.deaf = !on }) }

// Status returns how far the client is.
func (c *Client) Status() (s Status) {
	c.do(func() { s = Status{Live: c.phase == live, Pending: len(c.outbox), LastID: c.lastID} })
	return s
}

// do runs f in Run's goroutine.
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
