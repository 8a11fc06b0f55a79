// Package history is a pod's copy of the newest part of the topic. The package adds records to the
// frame log, leaves out copies, begins a new log when the topic was made anew, and decides where a
// client starts.
package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
	"kafkachat/internal/kafka"
)

// The parts of the pod that read Kafka, in reports and in client ids.
const (
	Consumer = "consumer"
	Ends     = "ends"
)

// The tracks of the frame log.
const (
	Raw    = iota // the text of a message, and nothing else
	ChatV1        // the events of chat.Protocol
	tracks
)

const (
	// showAtMost is the number of offsets before the topic's end whose records a starting pod
	// shows. The frame log's limit in bytes may keep fewer.
	showAtMost = 65536
	// endIsOld is the age at which the last known end of the topic is too old for use. The pod asks
	// for the end once a second.
	endIsOld = 3 * time.Second
)

var errNotAsked = errors.New("no answer from Kafka yet")

// A state says how far the frame log follows the topic.
type state int

const (
	unknown state = iota // the log belongs to no known topic: open will begin a new log
	loading              // the log takes in the records that the topic had when the log was begun
	live                 // the log has those records, and grows with the topic
)

// Config is what a History needs. All fields are required.
type Config struct {
	Cluster  *kafka.Cluster
	ClientID func(part string) string // of the connections of a part
	Topic    string
	Limit    int // bytes of the frame log
	// Report gets the state of the parts Consumer and Ends: nil when Kafka has answered, else why the
	// topic cannot be read.
	Report func(part string, err error)
	Log    *slog.Logger
}

// One goroutine writes a History: it calls Connect, Add, Reached and Interrupted. Any goroutine may
// call the other methods.
type History struct {
	Config
	windowSize int64 // in offsets
	ends       interface {
		Run(context.Context)
		Last() kafka.End
		Ask(context.Context) (kafka.End, error)
		Wake()
	}
	record func(ctx context.Context, offset int64) (*sarama.ConsumerMessage, error)
	ask    chan int64 // capacity 1: the offset of an old record that Run shall read

	// Owned by the writing goroutine.
	wait       kafka.Wait
	raw, event []byte    // scratch: the two frames of a record
	showFrom   int64     // records before this offset are read for their ids only
	said       time.Time // when progress was logged last

	mu       sync.Mutex // guards the following; held for one record
	log      *framelog.Log
	window   *chat.Window
	state    state
	ready    bool                         // has been live at least once
	why      error                        // the reason that the topic cannot be read; nil while fetches are answered
	consumer int                          // how often the topic has been opened
	target   int64                        // where the topic ended when the log was begun
	next     int64                        // all before this offset has been received, transaction markers included
	last     *sarama.ConsumerMessage      // the last record before next; nil if there is none
	old      map[int64]*framelog.Position // old records that Run has read, by offset; nil: retention has deleted the record
	stats    Stats
}

// Stats are the state of the topic, and counts since the start.
type Stats struct {
	Partitions   int32 // of the topic, 0 until that is known
	Next         int64 // the offset before which everything has been read
	End          int64 // where the topic ended when Kafka was asked last
	Records      int64 // read
	Copies       int64 // left out
	Placeholders int64 // shown in place of what is not text
	Gaps, Resets int64
	Resumes      map[string]int64 // clients that named a position, by what followed: resumed, gap or reset
}

// New returns a history of a topic that has not been read.
func New(c Config) *History {
	h := &History{
		Config: c, windowSize: chat.WindowSize, ask: make(chan int64, 1), why: errNotAsked,
		log: framelog.New(c.Limit, tracks, 0), window: chat.NewWindow(0), stats: Stats{Resumes: make(map[string]int64)},
	}
	h.ends = c.Cluster.NewEnds(c.ClientID(Ends), c.Topic, 0, func(err error) { c.Report(Ends, err) })
	h.record = h.readRecord
	h.wait = kafka.Wait{After: 2 * time.Second, Say: func(err error) {
		if err == nil {
			return
		}
		if h.Ready() != nil { // perhaps the address is not a broker's
			err = h.Cluster.Hint(err)
		}
		h.Log.Warn("the topic cannot be read; trying again", "err", err)
	}}
	return h
}

// open returns the offset from which to read the topic, which now begins at oldest and ends at
// newest. The caller has checked that the topic is still the one that was read. A new log begins if
// the state is unknown, or if the topic has lost records that the log was still loading. If the
// topic has lost the records to be read next, the log gets a gap.
func (h *History) open(oldest, newest int64) (from int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.consumer++
	switch {
	case h.state == unknown, h.state == loading && oldest > h.next:
		h.state, h.target = loading, newest
		// The records before showFrom are read for their ids only, so that later copies are found.
		h.showFrom = max(oldest, newest-showAtMost)
		h.next = max(oldest, h.showFrom-h.windowSize)
		h.log = framelog.New(h.Limit, tracks, h.showFrom)
		h.window = chat.NewWindow(h.windowSize)
		h.old = make(map[int64]*framelog.Position)
		h.said = time.Now()
	case oldest > h.next:
		h.stats.Gaps++
		event := chat.Event(chat.Gap, map[string]int64{"missing": oldest - h.next})
		h.log.AppendGap(oldest, nil, sockets.AppendText(nil, event))
		h.next = oldest
	}
	return h.next
}

// Added says what Add did with a record.
type Added struct {
	ID    string // "" if it has none
	Shown int64  // the offset of the record that is shown: another one if this is a copy
	Live  bool   // the record was not in the topic when the log was begun
}

// Add takes the next record of the topic.
func (h *History) Add(r *sarama.ConsumerMessage) Added {
	defer h.Reached(r.Offset + 1) // after h.mu is unlocked
	m := chat.Decode(r)
	position := positionOf(r, m)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = r
	h.stats.Records++
	shown, isCopy := h.window.Add(m.ID, m.Offset)
	switch {
	case m.Offset < h.showFrom:
		h.log.Skip(position)
	case isCopy:
		h.stats.Copies++
	default:
		h.append(m, position)
	}
	return Added{m.ID, shown, h.state == live}
}

func positionOf(r *sarama.ConsumerMessage, m chat.Message) framelog.Position {
	return framelog.Position{Offset: r.Offset, Sum: chat.Sum(r, m.ID)}
}

// append encodes m once for each track, for all clients. The caller holds h.mu.
func (h *History) append(m chat.Message, position framelog.Position) {
	if m.Placeholder {
		h.stats.Placeholders++
	}
	h.raw = sockets.AppendText(h.raw[:0], []byte(m.Text))
	h.event = sockets.AppendText(h.event[:0], chat.MessageEvent(m, position.String()))
	h.log.Append(position, h.raw, h.event) // Append copies the frames
}

// Frames returns the frame log, and whether the log has all records that the topic had when the log
// was begun.
func (h *History) Frames() (log *framelog.Log, loaded bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log, h.state == live
}

// Ready returns nil as soon as the topic has been read once. Before that, the error says why the
// topic cannot be read, or how far it has been read.
func (h *History) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ready:
		return nil
	case h.why != nil:
		return fmt.Errorf("the topic cannot be read yet: %w", h.why)
	}
	return fmt.Errorf("the topic is being read: offset %d of %d has been reached", h.next, h.target)
}

// Find implements publish.Log.
func (h *History) Find(id string) (shown int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.window.Find(id)
}

// Reading implements publish.Log.
func (h *History) Reading() (next int64, consumer int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next, h.consumer
}

// End implements publish.Log.
func (h *History) End(ctx context.Context) (int64, error) {
	end, err := h.ends.Ask(ctx)
	return end.Offset, err
}

// Behind implements publish.Log.
func (h *History) Behind() bool {
	end := h.ends.Last()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why != nil || h.state != live || time.Since(end.Asked) > endIsOld || end.Offset-h.next > h.windowSize/2
}

// Stats returns a copy of the state and the counts.
func (h *History) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Next, s.End, s.Resumes = h.next, h.ends.Last().Offset, maps.Clone(s.Resumes)
	return s
}
