// Package wire reads Kafka's wire format where sarama 1.38.1 does not do what a reader needs:
//
//   - It takes the record batches out of the answers to fetches, and limits their decompressed
//     size. Sarama's decoder has no limit, and 13 kB can become 400 MB. Sarama also does not say
//     where a batch ends that compaction has emptied, and so asks for that batch for ever.
//   - A partition without a leader is no longer an error of its whole topic. After such an error
//     sarama asks again and again, and does not use the other partitions.
package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const maxAnswer = 100 << 20 // sarama's limit

// A Conn is a connection to a broker. One goroutine may read while another writes.
type Conn struct {
	net.Conn
	in      *bufio.Reader // of Conn
	silence time.Duration
	fetched func(batches []byte)
	asked   chan kmsg.Response // for each request, in order: decodes its answer; nil: the answer stays as it is
	ready   []byte             // the rest of an answer, for the next Read; owned by the reader
}

// NewConn returns a Conn that changes the answers from conn. An answer that has begun may pause for
// as long as silence. Fetched gets the batches of each fetched partition, before the rest of the
// answer can be read. If fetched is nil, the batches stay in the answer.
func NewConn(conn net.Conn, silence time.Duration, fetched func(batches []byte)) *Conn {
	return &Conn{Conn: conn, in: bufio.NewReader(conn), silence: silence, fetched: fetched, asked: make(chan kmsg.Response, 16)}
}

// Write sends a request, and notes how to decode its answer. Sarama writes each request with one
// call, has at most a few requests under way, and gets an answer to each.
func (c *Conn) Write(request []byte) (int, error) {
	const keyAt, versionAt, end = 4, 6, 8
	var answer kmsg.Response
	if len(request) >= end {
		key := kmsg.Key(binary.BigEndian.Uint16(request[keyAt:]))
		if key == kmsg.Metadata || key == kmsg.Fetch && c.fetched != nil {
			answer = key.Response()
			answer.SetVersion(int16(binary.BigEndian.Uint16(request[versionAt:])))
		}
	}
	c.asked <- answer
	return c.Conn.Write(request)
}

func (c *Conn) Read(p []byte) (int, error) {
	if len(c.ready) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

func (c *Conn) next() error {
	head := make([]byte, 8) // size and correlation id
	n, err := io.ReadFull(c.in, head)
	size := int(int32(binary.BigEndian.Uint32(head)))
	switch {
	case n == 0:
		return err
	case err != nil, size < 4, size > maxAnswer:
		c.ready = head[:n] // not Kafka's format, as sarama will say; the next call returns the error
		return nil
	}
	frame := make([]byte, size+4)
	for at := copy(frame, head); at < len(frame); at += n { // the deadline limits a pause, not a whole large answer
		c.SetReadDeadline(time.Now().Add(c.silence))
		if n, err = c.in.Read(frame[at:]); n == 0 && err != nil {
			return err
		}
	}
	c.ready = frame
	answer := <-c.asked
	if answer == nil {
		return nil
	}
	if err := answer.ReadFrom(frame[len(head):]); err != nil {
		return fmt.Errorf("an answer of the broker cannot be read: %w", err)
	}
	c.change(answer)
	c.ready = answer.AppendTo(head)
	binary.BigEndian.PutUint32(c.ready, uint32(len(c.ready)-4))
	return nil
}

func (c *Conn) change(answer kmsg.Response) {
	const leaderNotAvailable, replicaNotAvailable = 5, 9
	switch r := answer.(type) {
	case *kmsg.MetadataResponse:
		for _, t := range r.Topics {
			for i := range t.Partitions {
				// The leader's number still says that the partition has no leader.
				if p := &t.Partitions[i]; p.ErrorCode == leaderNotAvailable {
					p.ErrorCode = replicaNotAvailable
				}
			}
		}
	case *kmsg.FetchResponse:
		for _, t := range r.Topics {
			for i := range t.Partitions {
				c.fetched(t.Partitions[i].RecordBatches)
				t.Partitions[i].RecordBatches = []byte{} // sarama does not accept nil
			}
		}
	}
}

// Retriable says whether Kafka's protocol calls the error with this code retriable.
func Retriable(code int16) bool { return kerr.IsRetriable(kerr.ErrorForCode(code)) }
