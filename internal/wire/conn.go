// Package wire stands between sarama and a broker's socket, and changes in the broker's answers
// what sarama 1.38.1 cannot bear:
//
//   - Compressed records are decompressed here, within a bound: sarama's decoder has none, and
//     13 kB can become 400 MB. What goes beyond the bound is replaced by a sentence.
//   - A batch that compaction has emptied is moved to its last offset, so that whoever asks again
//     from the offset after it does not get the same batch for ever.
//   - A partition without a leader is no longer an error of its whole topic, for which sarama asks
//     again and again instead of using the other partitions.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	maxAnswer = 100 << 20 // what sarama takes
	maxKept   = 512 << 10 // the largest buffer that an idle connection keeps
)

// A Conn is a connection to a broker. One goroutine may read while another writes.
type Conn struct {
	net.Conn
	silence time.Duration

	mu    sync.Mutex              // guards asked
	asked map[int32]kmsg.Response // by correlation id: what answers that are changed are read into

	// Owned by the reader.
	ready        []byte // the rest of an answer, to be handed over
	frame        []byte // memory for answers
	decompressor Decompressor
}

// NewConn returns conn with the answers changed. An answer that has begun may pause for so long.
func NewConn(conn net.Conn, silence time.Duration) *Conn {
	return &Conn{Conn: conn, silence: silence, asked: make(map[int32]kmsg.Response)}
}

// Write takes note of a request; sarama writes each with one call.
func (c *Conn) Write(request []byte) (int, error) {
	const key, version, id, end = 4, 6, 8, 12
	if len(request) >= end {
		answer := kmsg.ResponseForKey(int16(binary.BigEndian.Uint16(request[key:])))
		switch answer.(type) {
		case *kmsg.FetchResponse, *kmsg.MetadataResponse:
			answer.SetVersion(int16(binary.BigEndian.Uint16(request[version:])))
			c.mu.Lock()
			c.asked[int32(binary.BigEndian.Uint32(request[id:]))] = answer
			c.mu.Unlock()
		}
	}
	return c.Conn.Write(request)
}

func (c *Conn) Read(p []byte) (int, error) {
	if len(c.ready) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.ready)
	if c.ready = c.ready[n:]; len(c.ready) == 0 && cap(c.frame) > maxKept {
		c.frame = nil
	}
	return n, nil
}

// next reads an answer.
func (c *Conn) next() error {
	const head = 8 // size and correlation id
	if cap(c.frame) < head {
		c.frame = make([]byte, 512)
	}
	frame := c.frame[:head]
	n, err := io.ReadFull(c.Conn, frame)
	size, id := int(int32(binary.BigEndian.Uint32(frame))), int32(binary.BigEndian.Uint32(frame[4:]))
	switch {
	case n == 0:
		return err
	case err != nil, size < 4, size > maxAnswer:
		c.ready = frame[:n] // it is no answer of Kafka's, as sarama will say; the error comes again
		return nil
	}
	if cap(frame) < size+4 {
		frame = append(make([]byte, 0, size+4), frame...)
	}
	frame = frame[:size+4]
	c.frame = frame
	for at := head; at < len(frame); at += n { // the deadline is for silence, not for all of a large answer
		c.SetReadDeadline(time.Now().Add(c.silence))
		if n, err = c.Conn.Read(frame[at:]); n == 0 && err != nil {
			return err
		}
	}
	c.mu.Lock()
	answer := c.asked[id]
	delete(c.asked, id)
	c.mu.Unlock()
	c.ready = frame
	if answer == nil {
		return nil
	}
	if err := answer.ReadFrom(frame[head:]); err != nil {
		return fmt.Errorf("an answer of the broker cannot be read: %w", err)
	}
	if c.change(answer) {
		c.ready = answer.AppendTo(append(make([]byte, 0, size+4), frame[:head]...))
		binary.BigEndian.PutUint32(c.ready, uint32(len(c.ready)-4))
	}
	return nil
}

// change does what the package is for. It says whether it has changed anything.
func (c *Conn) change(answer kmsg.Response) (changed bool) {
	const leaderNotAvailable, replicaNotAvailable = 5, 9
	switch r := answer.(type) {
	case *kmsg.MetadataResponse:
		for _, t := range r.Topics {
			for i := range t.Partitions {
				// That it has no leader is said by the leader's number, too.
				if p := &t.Partitions[i]; p.ErrorCode == leaderNotAvailable {
					p.ErrorCode, changed = replicaNotAvailable, true
				}
			}
		}
	case *kmsg.FetchResponse:
		budget := Limit
		for _, t := range r.Topics {
			for i := range t.Partitions {
				records, c := c.decompressor.plain(t.Partitions[i].RecordBatches, &budget)
				t.Partitions[i].RecordBatches, changed = records, changed || c
			}
		}
	}
	return changed
}

// Retriable says whether Kafka's protocol calls the error with this code retriable.
func Retriable(code int16) bool { return kerr.IsRetriable(kerr.ErrorForCode(code)) }
