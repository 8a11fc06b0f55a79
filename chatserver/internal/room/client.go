package room

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

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
	// maxStrikes is how many events in a row may make no sense before a client is closed.
	maxStrikes = 10
)

// A Client is a websocket's reading side. It belongs to the goroutine that runs Talk.
type Client struct {
	room     *Room
	conn     *sockets.Conn
	name     string // of a person who has signed in, else ""
	remote   string // address, for the log
	leave    func()
	messages *rate.Limiter
	bytes    *rate.Limiter
	strikes  int // events in a row that made no sense
}

// Publish brings a message to the topic, and returns its offset when it has been read back from there.
// Again says that the client has sent it before.
type Publish func(ctx context.Context, m chat.Message, again bool) (offset int64, err error)

func newClient(r *Room, name string, leave func(), remote string) *Client {
	l := r.Limits
	return &Client{
		room: r, name: name, leave: leave, remote: remote,
		messages: rate.NewLimiter(rate.Limit(l.MessageRate), messageBurst*l.MessageRate),
		bytes:    rate.NewLimiter(rate.Limit(l.ByteRate), byteBurst*l.ByteRate),
	}
}

func (c *Client) isChat() bool { return c.conn.Subprotocol() == chat.Protocol }

func (c *Client) options(protocol string) sockets.Options {
	o := sockets.Options{
		Track: history.Raw, Limit: int64(c.room.Limits.MessageBytes), MessageTime: c.room.messageTime,
		Grow: func(bytes int) bool { return c.room.unread.grow(c, bytes) },
	}
	if protocol == chat.Protocol {
		o.Track, o.Notices = history.ChatV1, true
		o.Limit = 6*o.Limit + 1024 // each byte of the text may be escaped with six
	}
	return o
}

// Talk publishes what the client says until it has gone. The messages are taken one after another: the
// next one is read when the one before has come back from Kafka, so they keep their order, and a client
// cannot be faster than the chat. One that is faster than its pace is not read from, and nothing of it is lost.
func (c *Client) Talk(publish Publish) {
	defer c.leave()
	defer c.room.unread.forget(c)
	defer c.conn.Finish()
	take := c.takeText
	if c.isChat() {
		take = c.takeEvent
	}
	for {
		message, err := c.conn.Read()
		if err == nil {
			c.room.unread.whole(c)
			err = c.pace(len(message))
		}
		if err == nil {
			err = take(message, publish)
		}
		if err != nil {
			c.room.Metrics.CountEnd(err)
			c.room.Log.Debug("client gone", "remote", c.remote, "err", err)
			return
		}
		c.room.unread.forget(c)
	}
}

// pace waits until the client may have sent a message of this many bytes.
func (c *Client) pace(bytes int) error {
	if err := c.messages.Wait(c.conn.Context()); err != nil {
		return err
	}
	for bytes > 0 { // a message may be longer than the burst
		n := min(bytes, c.bytes.Burst())
		if err := c.bytes.WaitN(c.conn.Context(), n); err != nil {
			return err
		}
		bytes -= n
	}
	return nil
}

// takeText publishes a message of a client without a subprotocol, which can be told nothing: if
// Kafka does not take the message in time, the connection is closed.
func (c *Client) takeText(text []byte, send Publish) error {
	if len(text) == 0 {
		return nil
	}
	c.room.Metrics.MessagesIn.WithLabelValues("raw").Inc()
	ctx, cancel := context.WithTimeout(c.conn.Context(), c.room.PublishTimeout)
	defer cancel()
	_, err := send(ctx, chat.Message{ID: rand.Text(), Name: c.name, Pod: c.room.Pod, Text: string(text)}, false)
	switch rejected := (*publish.Rejected)(nil); {
	case errors.As(err, &rejected):
		c.room.Metrics.Rejects.WithLabelValues("kafka").Inc()
		c.conn.Close(sockets.ClosePolicyViolation, err.Error())
	case err != nil:
		c.conn.Close(sockets.CloseTryAgainLater, "Kafka did not answer in time; the message may still appear")
	}
	return err
}

// takeEvent publishes a message of a chat.v1 client and tells it what became of it. It waits for
// Kafka as long as the client does. A client that makes no sense too often is closed.
func (c *Client) takeEvent(event []byte, send Publish) error {
	begun := time.Now()
	request, err := chat.ParseRequest(event, c.room.Limits.MessageBytes)
	if err != nil {
		c.room.Metrics.Rejects.WithLabelValues("malformed").Inc()
		if c.strikes++; c.strikes >= maxStrikes {
			c.conn.Close(sockets.ClosePolicyViolation, "too many events that make no sense; the last one: "+err.Error())
			return err
		}
		return c.conn.Send(chat.Reject(request.ID, err.Error()))
	}
	c.strikes = 0
	c.room.Metrics.MessagesIn.WithLabelValues(chat.Protocol).Inc()
	m := chat.Message{ID: request.ID, Name: request.Name, Pod: c.room.Pod, Text: request.Text}
	if c.name != "" {
		m.Name = c.name
	}
	offset, err := send(c.conn.Context(), m, request.Again)
	switch rejected := (*publish.Rejected)(nil); {
	case errors.As(err, &rejected):
		c.room.Metrics.Rejects.WithLabelValues("kafka").Inc()
		return c.conn.Send(chat.Reject(request.ID, err.Error()))
	case err != nil:
		return err
	}
	return c.conn.Send(chat.Ack(request.ID, offset, time.Since(begun)))
}
