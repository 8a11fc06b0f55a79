// Package history is a pod's copy of the newest part of the topic: it reads records into the frame
// log, leaves out copies, and knows, when a consumer is opened again, whether the topic is still
// the one that it has read.
package history

import (
	"errors"
	"fmt"
	"sync"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
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
)

// ErrOtherLog says that the topic is not the one that was read before: it was deleted and made
// again, or the broker has lost its data.
var ErrOtherLog = errors.New("tail: the topic has another history than the one read before")

// Tail is written by one goroutine, which calls Open, Add, Forget and Idle; the other methods
// may be called by anybody.
type Tail struct {
	limit      int   // of the frame log, in bytes
	windowSize int64 // in offsets

	// Owned by the writing goroutine.
	payload, raw, chat []byte // scratch: an event's JSON, and the two frames
	showFrom           int64  // records before this offset are read for their ids only
	target             int64  // where the topic ended when it was opened first
	verify             bool   // the next record must be last again

	mu       sync.Mutex // guards the following; held for one record
	log      *framelog.Log
	window   *chat.Window
	loaded   bool // the log has what the topic had when it was opened first
	known    bool // the topic has been opened, and next and last are of the topic that is there
	next     int64
	last     chat.Position // of the record before next
	hasLast  bool
	fetched  int64 // everything before this has been received
	counters Counters
}

// Counters count since the start.
type Counters struct {
	Records      int64 // read
	Copies       int64 // left out
	Placeholders int64 // shown in place of what is not text
	Gaps, Resets int64
}

// New returns a tail whose frame log has at most limit bytes.
func New(limit int) *Tail { return newTail(limit, chat.WindowSize) }

func newTail(limit int, windowSize int64) *Tail {
	t := &Tail{limit: limit, windowSize: windowSize}
	t.log = framelog.New(limit, tracks, 0)
	t.window = chat.NewWindow(windowSize)
	return t
}

// Open says from which offset on to read a topic that now begins at oldest and ends at newest.
// Fresh says that the log is a new one: the topic has not been read before, or is not the one
// that was.
func (t *Tail) Open(oldest, newest int64) (from int64, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.verify, t.fetched = false, 0
	switch {
	case !t.known, newest < t.next, oldest > t.next && !(t.hasLast && t.loaded):
		t.load(oldest, newest)
		return max(oldest, t.showFrom-t.windowSize), true
	case oldest > t.next:
		// The topic has let go of records that were not read.
		t.appendGap(oldest, oldest-t.next)
		return oldest, false
	case !t.hasLast || oldest == t.next:
		return t.next, false
	}
	t.verify = true
	return t.last.Offset, false
}

// load begins a new log. Its first records are read for their ids only, so that copies of them
// are known. It needs t.mu.
func (t *Tail) load(oldest, newest int64) {
	if t.known {
		t.counters.Resets++
	}
	t.showFrom = max(oldest, newest-showAtMost)
	t.target = newest
	t.log = framelog.New(t.limit, tracks, t.showFrom)
	t.window = chat.NewWindow(t.windowSize)
	t.next = max(oldest, t.showFrom-t.windowSize)
	t.known, t.hasLast, t.loaded = true, false, t.next >= newest
}

// appendGap shows that records are missing before offset oldest. It needs t.mu.
func (t *Tail) appendGap(oldest, missing int64) {
	t.counters.Gaps++
	event := chat.Event("gap", struct {
		Missing int64 `json:"missing"`
	}{missing})
	t.log.Append(framelog.Entry{Offset: oldest - 1}, nil, sockets.AppendText(nil, event))
	t.next, t.hasLast = oldest, false
}

// Forget has the next Open begin a new log.
func (t *Tail) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known {
		t.counters.Resets++
	}
	t.known = false
}

// Added says what a record has become.
type Added struct {
	ID     string // "" if it has none
	Offset int64
	Shown  int64 // the offset of the record that is shown: another than Offset if this one is a copy
	Live   bool  // it was not there when the topic was opened first
}

// Add takes the next record of the topic. The error is ErrOtherLog, or nil.
func (t *Tail) Add(r *sarama.ConsumerMessage) (Added, error) {
	m := chat.Decode(r)
	position := chat.PositionOf(r, m.ID)
	t.mu.Lock()
	defer t.mu.Unlock()
	added := Added{ID: m.ID, Offset: m.Offset, Shown: m.Offset, Live: t.loaded}
	if t.verify {
		t.verify = false
		if position != t.last {
			return Added{}, fmt.Errorf("%w (the record at offset %d differs)", ErrOtherLog, t.last.Offset)
		}
		return added, nil
	}
	if m.Offset < t.next {
		return added, nil // read before
	}
	t.next, t.last, t.hasLast = m.Offset+1, position, true
	t.counters.Records++
	shown, isCopy := t.window.Add(m.ID, m.Offset)
	added.Shown = shown
	switch {
	case m.Offset < t.showFrom:
		t.log.Skip(framelog.Entry(position))
	case isCopy:
		t.counters.Copies++
	default:
		t.append(m, position)
	}
	if t.next >= t.target {
		t.loaded = true
	}
	return added, nil
}

// append encodes m once for each track, for all clients. It needs t.mu.
func (t *Tail) append(m chat.Message, position chat.Position) {
	if m.Placeholder {
		t.counters.Placeholders++
	}
	t.payload = append(t.payload[:0], m.Text...)
	t.raw = sockets.AppendText(t.raw[:0], t.payload)
	t.payload = chat.AppendMessage(t.payload[:0], m, position)
	t.chat = sockets.AppendText(t.chat[:0], t.payload)
	t.log.Append(framelog.Entry(position), t.raw, t.chat)
}

// Idle is called from time to time with the offset before which everything has been received. What
// is between the last record and that offset are no records but markers.
func (t *Tail) Idle(reached int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fetched = reached
	t.loaded = t.loaded || t.known && reached >= t.target
}

// Log returns the frame log, and whether it has been loaded.
func (t *Tail) Log() (log *framelog.Log, loaded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log, t.loaded && t.known
}

// Find returns the offset of the record with this id that is shown, if a record that came next
// would be a copy of it.
func (t *Tail) Find(id string) (shown int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.window.Find(id)
}

// Next returns the offset after the last record that was read.
func (t *Tail) Next() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// Reached says whether every record before end has been read. Behind the last record there may
// be markers, which nobody gets.
func (t *Tail) Reached(end int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known && (max(t.next, t.fetched) >= end)
}

// Counters returns the counts.
func (t *Tail) Counters() Counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counters
}
