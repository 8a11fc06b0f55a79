// Package wire stands between sarama and a broker's socket, and changes in the broker's answers
// what sarama 1.38.1 cannot bear:
//
//   - Compressed records are decompressed here, within a bound: sarama's decoder has none, and
//     13 kB can become 400 MB. What goes beyond the bound is replaced by a sentence.
//   - A batch that compaction has emptied is moved to its last offset: sarama goes on at the offset
//     after its first, and the broker then sends the same batch for ever.
//   - A partition without a leader is no longer an error of its whole topic, for which sarama asks
//     again and again instead of using the other partitions.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Answers are those of one connection. Its zero value is ready. Sent and Read may be called by two
// goroutines.
type Answers struct {
	Watch Watch // may be nil

	mu    sync.Mutex             // guards asked
	asked map[int32]kmsg.Request // by correlation id: those whose answers are changed

	// Owned by the reader.
	ready        []byte // the rest of an answer, to be handed over
	passing      int    // so many bytes of an answer follow that pass as they are
	frame        []byte // memory for answers
	decompressor Decompressor
}

// A Watch is told of each fetch before it goes to the broker, and of its answer before sarama gets
// it.
type Watch interface {
	Fetching(topic string, partition int32, offset int64)
	Fetched(topic string, partition int32, code int16, highWaterMark int64)
}

// maxKept is the largest buffer that an idle connection keeps.
const maxKept = 512 << 10

// Sent takes note of a request that is about to be written; sarama writes each with one call.
func (a *Answers) Sent(request []byte) {
	if len(request) < 12 {
		return
	}
	r := kbin.Reader{Src: request[4:]}
	body := kmsg.RequestForKey(r.Int16())
	switch body.(type) {
	case *kmsg.FetchRequest, *kmsg.MetadataRequest:
	default:
		return
	}
	body.SetVersion(r.Int16())
	id := r.Int32()
	r.NullableString() // the client's name
	if body.IsFlexible() || body.ReadFrom(r.Src) != nil {
		return
	}
	if fetch, ok := body.(*kmsg.FetchRequest); ok && a.Watch != nil {
		for _, t := range fetch.Topics {
			for _, p := range t.Partitions {
				a.Watch.Fetching(t.Topic, p.Partition, p.FetchOffset)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked == nil {
		a.asked = make(map[int32]kmsg.Request)
	}
	a.asked[id] = body
}

// Read is io.Reader's, with the broker's bytes from src. Extend is called when an answer has begun
// that is read to its end at once.
func (a *Answers) Read(src io.Reader, p []byte, extend func()) (int, error) {
	if len(a.ready) == 0 && a.passing == 0 {
		if err := a.next(src, extend); err != nil {
			return 0, err
		}
	}
	if len(a.ready) > 0 {
		n := copy(p, a.ready)
		if a.ready = a.ready[n:]; len(a.ready) == 0 && cap(a.frame) > maxKept {
			a.frame = nil
		}
		return n, nil
	}
	n, err := src.Read(p[:min(len(p), a.passing)])
	a.passing -= n
	return n, err
}

// next begins an answer: its size and number are ready, or all of it, changed.
func (a *Answers) next(src io.Reader, extend func()) error {
	const head = 8
	if cap(a.frame) < head {
		a.frame = make([]byte, 512)
	}
	frame := a.frame[:head]
	if n, err := io.ReadFull(src, frame); err != nil {
		if n > 0 {
			a.ready = frame[:n] // it is no answer of Kafka's; the error comes again
			return nil
		}
		return err
	}
	size, id := int(int32(binary.BigEndian.Uint32(frame))), int32(binary.BigEndian.Uint32(frame[4:]))
	a.mu.Lock()
	request := a.asked[id]
	delete(a.asked, id)
	a.mu.Unlock()
	if request == nil || size < 4 || size > maxAnswer {
		a.ready, a.passing = frame, max(0, size-4)
		return nil // if the size is wrong, sarama says so
	}
	if cap(frame) < size+4 {
		frame = append(make([]byte, 0, size+4), frame...)
	}
	frame = frame[:size+4]
	a.frame = frame
	for at := head; at < len(frame); { // the deadline is for silence, not for all of a large answer
		extend()
		n, err := src.Read(frame[at:])
		if at += n; at < len(frame) && err != nil {
			return err
		}
	}
	response := request.ResponseKind()
	if err := response.ReadFrom(frame[head:]); err != nil {
		return fmt.Errorf("an answer of the broker cannot be read: %w", err)
	}
	a.ready = frame
	if a.change(response) {
		changed := response.AppendTo(append(make([]byte, 0, size+4), frame[:head]...))
		binary.BigEndian.PutUint32(changed, uint32(len(changed)-4))
		a.ready = changed
	}
	return nil
}

// maxAnswer is the largest answer that sarama takes.
const maxAnswer = 100 << 20

// change does what the package is for. It says whether it has changed anything.
func (a *Answers) change(response kmsg.Response) (changed bool) {
	const leaderNotAvailable, replicaNotAvailable = 5, 9
	switch r := response.(type) {
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
				p := &t.Partitions[i]
				if a.Watch != nil {
					a.Watch.Fetched(t.Topic, p.Partition, p.ErrorCode, p.HighWatermark)
				}
				if records, c := a.decompressor.plain(p.RecordBatches, &budget); c {
					p.RecordBatches, changed = records, true
				}
			}
		}
	}
	return changed
}
