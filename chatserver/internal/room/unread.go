package room

import (
	"sync"

	"kafkachat/chatserver/internal/sockets"
)

// UnreadBytes bounds the memory of all messages that are being read, or wait for Kafka.
const UnreadBytes = 32 << 20

// unread counts the memory of messages that have not been published. A short message, which fits into
// the buffer that every reader has, is not counted.
type unread struct {
	mu   sync.Mutex // guards the following
	free int
	held map[*Client]holding
}

type holding struct {
	bytes int
	whole bool // the message has been read and waits for Kafka
}

// grow takes bytes for a message of c that is being read, and says whether c may keep it. When the memory
// is used up, the largest unfinished message is given up, which may be that one, and its client is closed.
func (u *unread) grow(c *Client, bytes int) bool {
	for _, victim := range u.take(c, bytes) {
		c.room.Metrics.Rejects.WithLabelValues("no_room").Inc()
		victim.conn.Close(sockets.CloseTryAgainLater, "too many long messages are being read at once")
		if victim == c {
			return false
		}
	}
	return c.conn.Context().Err() == nil
}

// take returns whose messages are given up for bytes of c.
func (u *unread) take(c *Client, bytes int) (victims []*Client) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held == nil {
		u.held = make(map[*Client]holding)
	}
	u.held[c] = holding{bytes: u.held[c].bytes + bytes}
	for u.free -= bytes; u.free < 0; {
		var largest *Client
		for client, h := range u.held {
			if !h.whole && (largest == nil || h.bytes > u.held[largest].bytes) {
				largest = client
			}
		}
		u.free += u.held[largest].bytes
		delete(u.held, largest)
		victims = append(victims, largest)
		if largest == c {
			break
		}
	}
	return victims
}

// whole says that the message of c has been read.
func (u *unread) whole(c *Client) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if h, ok := u.held[c]; ok {
		h.whole = true
		u.held[c] = h
	}
}

// forget says that the message of c needs no memory any more.
func (u *unread) forget(c *Client) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.free += u.held[c].bytes
	delete(u.held, c)
}
