// Package history is a pod's copy of the newest part of the topic. It takes records into the frame
// log, leaves out copies, begins a new log when the topic is another one, and decides where a client
// starts.
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

// The tracks of the frame log.
const (
	Raw    = iota // the text of a message, and nothing else
	ChatV1        // the events of chat.Protocol
	tracks
)

const (
	// showAtMost is how many records before its end a topic is read for when a pod starts. The
	// log's limit in bytes may keep fewer.
	showAtMost = 65536
	// endIsOld is the age from which on the last known end of the topic says nothing. It is asked
	// for once a second.
	endIsOld = 3 * time.Second
)

var errNotAsked = errors.New("no answer from Kafka yet")

// A state is what the frame log is to the topic.
type state int

const (
	unknown state = iota // nothing: the next Open begins a new log
	loading              // the log is being filled with what there was when it was begun
	live                 // the log has that, and grows with the topic
)

// Config is what a History needs. All fields are required.
type Config struct {
	Cluster  *kafka.Cluster
	ClientID func(part string) string // of a part's connections
	Topic    string
	Limit    int // bytes of the frame log
	// Report is told how the parts "consumer" and "ends" fare: nil when Kafka has answered, else why
	// the topic cannot be read.
	Report func(part string, err error)
	Log    *slog.Logger
}

// History is written by one goroutine, which calls Connect, Add, Reached and Interrupted. The other
// methods may be called by anybody.
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
	ask    chan int64 // capacity 1: the offset of an old record that somebody wants to know

	// Owned by the writing goroutine.
	wait       kafka.Wait
	raw, event []byte    // scratch: the two frames of a record
	showFrom   int64     // records before this offset are read for their ids only
	said       time.Time // when progress was logged last

	mu       sync.Mutex // guards the following; held for one record
	log      *framelog.Log
	window   *chat.Window
	state    state
	ready    bool                         // has been live at one time or another
	why      error                        // the topic cannot be read; nil while fetches are answered
	consumer int                          // how often the topic has been opened
	target   int64                        // where the topic ended when the log was begun
	next     int64                        // everything before it has been received, markers included
	last     *sarama.ConsumerMessage      // the last record before next; nil if there is none
	old      map[int64]*framelog.Position // of records that were asked for, by offset; nil: retention has taken it
	stats    Stats
}

// Stats are how things are, and counts since the start.
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
	h.ends = c.Cluster.NewEnds(c.ClientID("ends"), c.Topic, 0, func(err error) { c.Report("ends", err) })
	h.record = h.readRecord
	h.wait = kafka.Wait{After: 2 * time.Second, Say: func(err error) {
		if err != nil {
			c.Log.Warn("the topic cannot be read; trying again", "err", err)
		}
	}}
	return h
}

// Open says from which offset on to read the topic, which now begins at oldest and ends at newest, and
// is the one that was read, if one was. Open begins a new log if there is none, or if the topic has
// lost what was being loaded, and shows a gap if it has lost what was to be read next.
func (h *History) Open(oldest, newest int64) (from int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.consumer++
	switch {
	case h.state == unknown, h.state == loading && oldest > h.next:
		h.state, h.target = loading, newest
		// The first records are read for their ids only, so that copies of them are known.
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

// Added says what a record has become.
type Added struct {
	ID    string // "" if it has none
	Shown int64  // the offset of the record that is shown: another one if this is a copy
	Live  bool   // it was not there when the log was begun
}

// Add takes the next record of the topic.
func (h *History) Add(r *sarama.ConsumerMessage) Added {
	defer h.Reached(r.Offset + 1) // when h.mu is free again
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

// append encodes m once for each track, for all clients. It needs h.mu.
func (h *History) append(m chat.Message, position framelog.Position) {
	if m.Placeholder {
		h.stats.Placeholders++
	}
	h.raw = sockets.AppendText(h.raw[:0], []byte(m.Text))
	h.event = sockets.AppendText(h.event[:0], chat.MessageEvent(m, position.String()))
	h.log.Append(position, h.raw, h.event) // copies them
}

// Frames returns the frame log, and whether it has what the topic had when the log was begun.
func (h *History) Frames() (log *framelog.Log, loaded bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log, h.state == live
}

// Ready returns nil once the topic has been read, and for ever after; until then, why it has not been
// and how far it has.
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
	return h.why != nil || h.state != live || time.Since(end.Asked) > endIsOld || end.Offset-h.next > chat.WindowSize/2
}

// Stats may be called by anybody.
func (h *History) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Next, s.End, s.Resumes = h.next, h.ends.Last().Offset, maps.Clone(s.Resumes)
	return s
}
