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
	mu      sync.Mutex // guards the following
	free    int
	reading map[*Client]int // bytes that each unfinished message takes of it
}

// grow takes bytes for a message of c that is being read, and says whether c may keep it. When the memory
// is used up, the largest unfinished message is given up, which may be that one, and its client is closed.
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
		largest.conn.Close(sockets.CloseTryAgainLater, "too many long messages are being read at once")
		if largest == c {
			break
		}
	}
	return c.conn.Context().Err() == nil
}

// finished says that the message of c is not being read any more, and returns what it takes until release.
func (u *unread) finished(c *Client) (bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	bytes = u.reading[c]
	delete(u.reading, c)
	return bytes
}

func (u *unread) release(bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.free += bytes
}
