// Package history is a pod's copy of the newest part of the topic. It reads records into the frame
// log, leaves out copies, knows when a consumer is opened again whether the topic is still the one
// that has been read, and decides where a client starts.
package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
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
	// progressEvery is the time between two lines in the log while a topic is loaded.
	progressEvery = 10 * time.Second
	// CheckEvery is how often Reached is to be called.
	CheckEvery = 100 * time.Millisecond
)

// ErrAnotherTopic says that the topic is not the one that was read before: it was deleted and made
// again, or the broker has lost its data.
var ErrAnotherTopic = errors.New("the topic has another history than the one read before")

var (
	errNotAsked = errors.New("no answer from Kafka yet")
)

// A state is what the frame log is to the topic.
type state int

const (
	unknown state = iota // nothing: the next Open begins a new log
	loading              // the log is being filled with what there was when it was begun
	live                 // the log has that, and grows with the topic
)

// Config is what a History needs. All fields are required.
type Config struct {
	Limit int // bytes of the frame log
	// Ends says where the topic begins and ends.
	Ends interface {
		Last() kafka.Bounds
		Ask(context.Context) (kafka.Bounds, error)
		Wake()
	}
	// Record reads the record at an offset, or the next one, from Kafka; see RecordOf.
	Record func(ctx context.Context, offset int64) (*sarama.ConsumerMessage, error)
	// Report is called by the goroutine that reads: with nil when a fetch has been answered, else with
	// why the topic cannot be read.
	Report func(error)
	// Changed is called when a client's place may be another than before.
	Changed func()
	// Placed is called for each client that named a position, with what followed: resumed, gap or reset.
	Placed func(outcome string)
	// Anew is called when the log is a new one, by the goroutine that reads.
	Anew func()
	Log  *slog.Logger
}

// History is written by one goroutine, which calls Open, Add, Reached and Interrupted. The other
// methods may be called by anybody.
type History struct {
	Config
	windowSize int64      // in offsets
	ask        chan int64 // capacity 1: the offset of an old record that somebody wants to know
	partitions atomic.Int32

	// Owned by the writing goroutine.
	wait       kafka.Wait
	raw, event []byte // scratch: the two frames of a record
	showFrom   int64  // records before this offset are read for their ids only
	verify     bool   // the next record must be last again
	began      time.Time
	said       time.Time // when progress was logged last

	mu       sync.Mutex // guards the following; held for one record
	log      *framelog.Log
	window   *chat.Window
	state    state
	ready    bool                        // has been live at one time or another
	why      error                       // nil while fetches are answered
	consumer int                         // how often the topic has been opened
	target   int64                       // where the topic ended when the log was begun
	next     int64                       // the offset after the last record that was read
	last     *framelog.Position          // of the record before next; nil if that is not known
	reached  int64                       // everything before this has been received, markers included
	old      map[int64]framelog.Position // by offset: records that are no longer in log, as far as they have been asked for
	counters Counters
}

// Counters count since the start.
type Counters struct {
	Records      int64 // read
	Copies       int64 // left out
	Placeholders int64 // shown in place of what is not text
	Gaps, Resets int64
}

// New returns a history of a topic that has not been read.
func New(config Config) *History { return newHistory(config, chat.WindowSize) }

func newHistory(config Config, windowSize int64) *History {
	h := &History{
		Config: config, windowSize: windowSize, ask: make(chan int64, 1), why: errNotAsked,
		log: framelog.New(config.Limit, tracks, 0), window: chat.NewWindow(windowSize),
	}
	h.wait = kafka.Wait{After: 2 * time.Second, Say: func(err error) {
		if err != nil {
			h.Log.Warn("the topic cannot be read; trying again", "err", err)
		}
	}}
	return h
}

// Open says from which offset on to read a topic that now begins at oldest and ends at newest.
// Another says that the log is a new one: the topic has not been read before, is not the one that
// was read, or has lost what was being loaded.
func (h *History) Open(oldest, newest int64) (from int64, another bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verify, h.reached = false, -1
	h.consumer++
	switch {
	case h.state == unknown, newest < h.next, h.state == loading && (newest < h.target || oldest > h.next):
		return h.load(oldest, newest), true
	case oldest > h.next:
		h.appendGap(oldest)
		return oldest, false
	case h.last == nil, h.last.Offset < oldest:
		return h.next, false
	}
	h.verify = true
	return h.last.Offset, false
}

// load begins a new log. Its first records are read for their ids only, so that copies of them are
// known. load needs h.mu.
func (h *History) load(oldest, newest int64) (from int64) {
	if h.state != unknown && oldest <= h.next {
		h.counters.Resets++
	}
	h.state, h.target, h.last = loading, newest, nil
	h.showFrom = max(oldest, newest-showAtMost)
	h.next = max(oldest, h.showFrom-h.windowSize)
	h.log = framelog.New(h.Limit, tracks, h.showFrom)
	h.window = chat.NewWindow(h.windowSize)
	h.old = make(map[int64]framelog.Position)
	h.began, h.said = time.Now(), time.Now()
	return h.next
}

// appendGap shows that the records before offset oldest are missing. It needs h.mu.
func (h *History) appendGap(oldest int64) {
	h.counters.Gaps++
	event := chat.Event(chat.Gap, struct {
		Missing int64 `json:"missing"`
	}{oldest - h.next})
	h.log.AppendGap(oldest, nil, sockets.AppendText(nil, event))
	h.next, h.last = oldest, nil
}

// Added says what a record has become.
type Added struct {
	ID     string // "" if it has none
	Offset int64
	Shown  int64 // the offset of the record that is shown: another than Offset if this one is a copy
	Live   bool  // it was not there when the log was begun, and is read for the first time
}

// Add takes the next record of the topic. The error is ErrAnotherTopic, or nil.
func (h *History) Add(r *sarama.ConsumerMessage) (Added, error) {
	h.answered()
	defer h.progress()
	m := chat.Decode(r)
	position := positionOf(r, m)
	h.mu.Lock()
	defer h.mu.Unlock()
	added := Added{ID: m.ID, Offset: m.Offset, Shown: m.Offset, Live: h.state == live}
	if h.verify {
		h.verify, added.Live = false, false
		if position != *h.last {
			return Added{}, fmt.Errorf("%w (the record at offset %d differs)", ErrAnotherTopic, h.last.Offset)
		}
		return added, nil
	}
	if m.Offset < h.next { // read before
		added.Live = false
		return added, nil
	}
	h.next, h.last = m.Offset+1, &position
	h.counters.Records++
	shown, isCopy := h.window.Add(m.ID, m.Offset)
	added.Shown = shown
	switch {
	case m.Offset < h.showFrom:
		h.log.Skip(position)
	case isCopy:
		h.counters.Copies++
	default:
		h.append(m, position)
	}
	return added, nil
}

func positionOf(r *sarama.ConsumerMessage, m chat.Message) framelog.Position {
	return framelog.Position{Offset: r.Offset, Sum: chat.Sum(r, m.ID)}
}

// append encodes m once for each track, for all clients. It needs h.mu.
func (h *History) append(m chat.Message, position framelog.Position) {
	if m.Placeholder {
		h.counters.Placeholders++
	}
	h.raw = sockets.AppendText(h.raw[:0], []byte(m.Text))
	h.event = sockets.AppendText(h.event[:0], chat.MessageEvent(m, position.String()))
	h.log.Append(position, h.raw, h.event) // copies them
}
