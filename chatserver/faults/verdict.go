package faults

import (
	"fmt"
	"math"
	"slices"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/chatclient"
)

// A saying is a message, as its sender knows it.
type saying struct {
	sender, number int
	at             time.Time
	sends          int
	acked          bool
	rejected       bool
	givenUp        bool // the person did not want it to be sent again
}

func (s *saying) String() string {
	if s == nil {
		return "none of the clients wrote it"
	}
	return fmt.Sprintf("client %d wrote it at %s and sent it %d times", s.sender, s.at.UTC().Format("15:04:05.000"), s.sends)
}

type judgement struct {
	evidence
	*verdict
	said    map[string]*saying
	shown   []logged         // the records of the log that are to be shown
	shownAt map[int64]int    // offset to index in shown
	inLog   map[string]int   // copies of each id
	before  map[int64]string // ids that clients were shown from the lost topic, by offset
}

// judge finds the verdict.
func judge(e evidence) *verdict {
	j := &judgement{
		evidence: e, verdict: &verdict{clients: len(e.journals), fewest: math.MaxInt},
		said: make(map[string]*saying), shownAt: make(map[int64]int), inLog: make(map[string]int), before: make(map[int64]string),
	}
	for sender, client := range j.journals {
		j.readSayings(sender, client)
	}
	j.readLog()
	for _, client := range j.journals {
		j.follow(client)
	}
	for id, s := range j.said {
		switch {
		case s.rejected:
			j.n[rejected]++
		case s.acked:
			j.n[acked]++
		case !s.givenUp:
			j.blame(unheard, 1, "nothing was heard of message %s; %s", id, s)
		}
	}
	slices.Sort(j.recovery)
	return j.verdict
}

// blame counts an error, and describes it.
func (j *judgement) blame(t tally, n int, format string, args ...any) {
	const most = 20
	j.n[t] += n
	if len(j.complaints) < most {
		j.complaints = append(j.complaints, fmt.Sprintf(format, args...))
	}
}

func (j *judgement) readSayings(sender int, client journal) {
	number := 0
	for _, e := range client.events {
		switch e.Kind {
		case chatclient.Said:
			number++
			j.n[sent]++
			j.said[e.ID] = &saying{sender: sender, number: number, at: e.At}
		case chatclient.Sent:
			j.said[e.ID].sends++
			j.said[e.ID].givenUp = false
		case chatclient.Unsure:
			j.n[asked]++
			j.said[e.ID].givenUp = true
		case chatclient.Rejected:
			if s := j.said[e.ID]; s != nil {
				s.rejected = true
			}
		}
	}
}

// readLog finds which records are to be shown, by the rule that all pods follow.
func (j *judgement) readLog() {
	last := make(map[string]int64)
	for _, r := range j.log {
		at, isCopy := last[r.id]
		if r.id != "" {
			last[r.id] = r.offset
			j.inLog[r.id]++
		}
		if !isCopy || r.offset-at > chat.WindowSize {
			j.shownAt[r.offset] = len(j.shown)
			j.shown = append(j.shown, r)
		}
	}
	for id, s := range j.said {
		j.copies = max(j.copies, j.inLog[id])
		if !j.anyCopies && j.inLog[id] > 2 {
			j.blame(surplus, 1, "message %s has %d copies; %s", id, j.inLog[id], s)
		}
		if s.rejected && j.inLog[id] > 0 {
			j.blame(rejectedShown, 1, "message %s was rejected, and is in the topic; %s", id, s)
		}
	}
}

// A stretch is a part of a journal in which a client saw one log without a break.
type stretch struct {
	client    string
	old       bool // from the topic that was lost
	next      int  // index in shown of the next record
	mayMiss   bool // a gap was told, or the pod chose where to begin
	offset    int64
	seen      map[string]int64 // the offsets of messages
	ofSenders map[int]int      // the number of the last message of each
}

func newStretch(client string, old, mayMiss bool) *stretch {
	return &stretch{client: client, old: old, mayMiss: mayMiss, offset: -1, seen: make(map[string]int64), ofSenders: make(map[int]int)}
}

// follow judges the journal of one client.
func (j *judgement) follow(client journal) {
	s := newStretch(client.name, j.remade, false) // all clients connect while the topic is empty
	fresh, delivered, told, recovered := 0, 0, 0, false
	for _, e := range client.events {
		switch {
		case tellsGap(e):
			j.n[gaps]++
			s.mayMiss = true
		case e.Kind == chatclient.Reset:
			told++
			s = newStretch(client.name, false, false)
		case e.Kind == chatclient.Welcomed && e.Reason == chat.Reset:
			told++
			s = newStretch(client.name, false, true) // it starts at the newest messages
		case e.Kind == chatclient.Welcomed && e.Reason == chat.Fresh:
			if fresh++; fresh > 1 {
				told++
				s = newStretch(client.name, s.old && told == 1, true)
			}
		case e.Kind == chatclient.Message:
			delivered++
			j.message(s, e)
			if said := j.said[e.ID]; !recovered && said != nil && said.at.After(j.ended) {
				recovered = true
				j.recovery = append(j.recovery, e.At.Sub(j.ended))
			}
			j.ack(s, e)
		case e.Kind == chatclient.Acked:
			j.ack(s, e)
		}
	}
	j.n[resets] += told
	if s.old {
		j.blame(untold, 1, "%s was never told that the topic is another one", client.name)
	} else if missing := len(j.shown) - s.next; !s.mayMiss && missing > 0 {
		j.blame(lost, missing, "%s was not shown the last %d records, from offset %d on", client.name, missing, j.shown[s.next].offset)
	}
	if !recovered {
		j.blame(silent, 1, "%s was shown no message that was written after the fault", client.name)
	}
	j.fewest, j.most = min(j.fewest, delivered), max(j.most, delivered)
}

// tellsGap says whether the client was told of a gap.
func tellsGap(e chatclient.Event) bool {
	return e.Kind == chatclient.Gap || e.Kind == chatclient.Welcomed && e.Reason == chat.Gap
}

// message judges one message that a client was shown.
func (j *judgement) message(s *stretch, e chatclient.Event) {
	said := j.said[e.ID]
	if first, ok := s.seen[e.ID]; ok && e.ID != "" {
		j.blame(doubled, 1, "%s was shown message %s of offset %d again at offset %d; %s", s.client, e.ID, first, e.Offset, said)
		return
	}
	s.seen[e.ID] = e.Offset
	if said != nil {
		if said.rejected {
			j.blame(rejectedShown, 1, "%s was shown message %s, which was rejected; %s", s.client, e.ID, said)
		}
		if last := s.ofSenders[said.sender]; said.number < last {
			j.blame(outOfOrder, 1, "%s was shown message %d of client %d after message %d", s.client, said.number, said.sender, last)
		}
		s.ofSenders[said.sender] = max(said.number, s.ofSenders[said.sender])
	}
	if e.Offset <= s.offset {
		j.blame(otherOrder, 1, "%s was shown offset %d after offset %d", s.client, e.Offset, s.offset)
		return
	}
	s.offset = e.Offset
	if s.old {
		if id, ok := j.before[e.Offset]; ok && id != e.ID {
			j.blame(otherOrder, 1, "%s was shown %s at offset %d, another client %s", s.client, e.ID, e.Offset, id)
		}
		j.before[e.Offset] = e.ID
		return
	}
	at, ok := j.shownAt[e.Offset]
	if !ok || j.shown[at].id != e.ID {
		j.blame(otherOrder, 1, "%s was shown %s at offset %d, where the topic has something else", s.client, e.ID, e.Offset)
		return
	}
	if at > s.next && !s.mayMiss {
		j.blame(lost, at-s.next, "%s was shown offset %d, but not the %d records from %d on before it", s.client, e.Offset, at-s.next, j.shown[s.next].offset)
	}
	s.next, s.mayMiss = at+1, false
}

// ack notes that a sender was told that its message is in the topic, and checks that it is.
func (j *judgement) ack(s *stretch, e chatclient.Event) {
	said := j.said[e.ID]
	if said == nil || j.journals[said.sender].name != s.client {
		return
	}
	said.acked = true
	if !s.old && j.inLog[e.ID] == 0 {
		j.blame(lost, 1, "%s was told that %s is in the topic at offset %d, and it is not", s.client, e.ID, e.Offset)
	}
}
