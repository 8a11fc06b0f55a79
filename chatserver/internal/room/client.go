package room

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/publish"
	"kafkachat/chatserver/internal/sockets"
)

const (
	messageBurst = 5  // seconds of MessageRate that a client may send at once
	byteBurst    = 16 // seconds of ByteRate, likewise
	messageTime  = 10 * time.Second
	maxStrikes   = 10 // malformed events in a row after which a client is closed
)

// A Client is a websocket's reading side. The goroutine that runs Talk owns it.
type Client struct {
	room     *Room
	conn     *sockets.Conn
	name     string       // of the signed-in person, else ""
	network  netip.Prefix // for which the client is counted
	take     func(message []byte, publish Publish) error
	messages *rate.Limiter // nil until the first message: most clients only read
	bytes    *rate.Limiter // likewise
	strikes  int           // malformed events in a row
}

// Publish writes a message to the topic, and returns its offset when the pod has read it back.
// Again says that the client has sent the message before.
type Publish func(ctx context.Context, m chat.Message, again bool) (offset int64, err error)

// options returns how the connection is served under protocol, and sets take to match.
func (c *Client) options(protocol string, asChat, asRaw sockets.Place) sockets.Options {
	o := sockets.Options{
		Track: history.Raw, Limit: int64(c.room.Limits.MessageBytes), MessageTime: c.room.messageTime,
		Grow: func(bytes int) bool { return c.room.unread.grow(c, bytes) }, Place: asRaw,
	}
	if c.take = c.takeText; protocol == chat.Protocol {
		c.take = c.takeEvent
		o.Track, o.Notices, o.Place = history.ChatV1, true, asChat
		o.Limit = 6*o.Limit + 1024 // each byte of the text may be escaped with six
	}
	return o
}

// Talk publishes the client's messages until the client is gone. Talk reads the next message when
// the one before has come back from Kafka, so the messages keep their order, and a client cannot be
// faster than the chat. If a client is faster than its rate, Talk reads later, and no message is
// lost. Talk's frame is small: see Conn.Read.
func (c *Client) Talk(publish Publish) {
	for {
		message, err := c.conn.Read()
		if !c.handle(message, err, publish) {
			break
		}
	}
	c.conn.Finish()
	c.room.leave(c.network)
}

// handle publishes what Read has returned, and returns whether the client stays.
func (c *Client) handle(message []byte, err error, publish Publish) bool {
	release := c.room.unread.finished(c)
	if err == nil {
		err = c.pace(len(message))
	}
	if err == nil {
		err = c.take(message, publish)
	}
	release()
	if err != nil {
		c.count(err)
		c.room.Log.Debug("client gone", "remote", c.conn.RemoteAddr().String(), "err", err)
	}
	return err == nil
}

// count counts a rejected message, if err is about one.
func (c *Client) count(err error) {
	for reason, rejected := range map[string]error{
		"binary": sockets.ErrBinary, "not_utf8": sockets.ErrNotUTF8, "too_long": sockets.ErrTooLong,
		"unfinished": sockets.ErrUnfinished, "kafka": publish.ErrRejected,
	} {
		if errors.Is(err, rejected) {
			c.room.Metrics.Rejects.WithLabelValues(reason).Inc()
		}
	}
}

// pace waits until the client may have sent a message of this many bytes.
func (c *Client) pace(bytes int) error {
	if limits := &c.room.Limits; c.messages == nil {
		c.messages = rate.NewLimiter(rate.Limit(limits.MessageRate), messageBurst*limits.MessageRate)
		c.bytes = rate.NewLimiter(rate.Limit(limits.ByteRate), byteBurst*limits.ByteRate)
	}
	if err := c.messages.Wait(c.conn.Context()); err != nil {
		return err
	}
	for ; bytes > 0; bytes -= c.bytes.Burst() { // a message may be longer than the burst
		if err := c.bytes.WaitN(c.conn.Context(), min(bytes, c.bytes.Burst())); err != nil {
			return err
		}
	}
	return nil
}

// takeText publishes a message of a client without a subprotocol. Such a client gets no events: if
// Kafka does not take the message in time, the connection is closed.
func (c *Client) takeText(text []byte, send Publish) error {
	if len(text) == 0 {
		return nil
	}
	c.room.Metrics.MessagesIn.WithLabelValues("raw").Inc()
	ctx, cancel := context.WithTimeout(c.conn.Context(), c.room.PublishTimeout)
	defer cancel()
	_, err := send(ctx, chat.Message{ID: rand.Text(), Name: c.name, Pod: c.room.Pod, Text: string(text)}, false)
	switch {
	case errors.Is(err, publish.ErrRejected):
		c.conn.Close(websocket.ClosePolicyViolation, err.Error())
	case err != nil:
		c.conn.Close(websocket.CloseTryAgainLater, "Kafka did not answer in time; the message may still appear")
	}
	return err
}

// takeEvent publishes a message of a chat.v1 client and answers it, however long Kafka takes.
func (c *Client) takeEvent(event []byte, send Publish) error {
	begun := time.Now()
	request, err := chat.ParseRequest(event, c.room.Limits.MessageBytes)
	if err != nil {
		c.room.Metrics.Rejects.WithLabelValues("malformed").Inc()
		if c.strikes++; c.strikes >= maxStrikes {
			c.conn.Close(websocket.ClosePolicyViolation, "too many malformed events in a row; the last one: "+err.Error())
			return err
		}
		return c.conn.Send(chat.Reject(request.ID, err.Error()))
	}
	c.strikes = 0
	c.room.Metrics.MessagesIn.WithLabelValues(chat.Protocol).Inc()
	m := chat.Message{ID: request.ID, Name: cmp.Or(c.name, request.Name), Pod: c.room.Pod, Text: request.Text}
	offset, err := send(c.conn.Context(), m, request.Again)
	switch {
	case err == nil:
		return c.conn.Send(chat.Ack(request.ID, offset, time.Since(begun)))
	case errors.Is(err, publish.ErrRejected):
		c.count(err)
		return c.conn.Send(chat.Reject(request.ID, err.Error()))
	}
	return err
}

// UnreadBytes bounds the memory of all messages that are being read, or wait for Kafka.
const UnreadBytes = 32 << 20

// unread counts that memory. The first buffer of a message is not counted: every reader has one.
type unread struct {
	mu      sync.Mutex // guards the following
	free    int
	reading map[*Client]int // bytes of each unfinished message
}

// grow takes bytes for the unfinished message of c, and returns whether reading may go on. When no
// memory is left, grow closes the client of the largest unfinished message, which may be c.
func (u *unread) grow(c *Client, bytes int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reading[c] += bytes
	for u.free -= bytes; u.free < 0; {
		largest := c
		for client, taken := range u.reading {
			if taken > u.reading[largest] {
				largest = client
			}
		}
		u.free += u.reading[largest]
		delete(u.reading, largest)
		largest.room.Metrics.Rejects.WithLabelValues("no_room").Inc()
		largest.conn.Close(websocket.CloseTryAgainLater, "too many long messages are being read at once")
		if largest == c {
			break
		}
	}
	return c.conn.Context().Err() == nil
}

// finished is called when the message of c has been read, release when Talk is done with it.
func (u *unread) finished(c *Client) (release func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	bytes := u.reading[c]
	delete(u.reading, c)
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.free += bytes
	}
}
