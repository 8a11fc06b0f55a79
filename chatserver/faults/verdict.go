package faults

import (
	"fmt"
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

// judge finds the verdict.
func judge(e evidence) *verdict {
	j := &judgement{evidence: e, verdict: &verdict{clients: len(e.journals)}, said: make(map[string]*saying), before: make(map[int64]string)}
	j.readSayings()
	j.readLog()
	j.fewest = -1
	for _, client := range e.journals {
		j.follow(client)
	}
	j.answers()
	slices.Sort(j.recovery)
	return j.verdict
}

type judgement struct {
	evidence
	*verdict
	said    map[string]*saying
	shown   []logged         // the records of the log that are to be shown
	shownAt map[int64]int    // offset to index in shown
	inLog   map[string]int   // copies
	before  map[int64]string // what clients were shown of the topic that was lost
}

func (j *judgement) complain(format string, args ...any) {
	const most = 20
	if len(j.complaints) < most {
		j.complaints = append(j.complaints, fmt.Sprintf(format, args...))
	}
}

func (j *judgement) readSayings() {
	for sender, client := range j.journals {
		number := 0
		for _, e := range client.events {
			switch e.Kind {
			case chatclient.Said:
				number++
				j.said[e.ID] = &saying{sender: sender, number: number, at: e.At}
			case chatclient.Sent:
				j.said[e.ID].sends++
				j.said[e.ID].givenUp = false
			case chatclient.Unsure:
				j.asked++
				j.said[e.ID].givenUp = true
			case chatclient.Rejected:
				if s := j.said[e.ID]; s != nil {
					s.rejected = true
				}
			}
		}
	}
	j.sent = len(j.said)
}

// readLog finds which records are to be shown, by the rule that all pods follow.
func (j *judgement) readLog() {
	j.inLog = make(map[string]int)
	j.shownAt = make(map[int64]int)
	last := make(map[string]int64)
	for _, r := range j.log {
		isCopy := false
		if r.id != "" {
			var at int64
			at, isCopy = last[r.id]
			isCopy = isCopy && r.offset-at <= chat.WindowSize
			last[r.id] = r.offset
			j.inLog[r.id]++
		}
		if !isCopy {
			j.shownAt[r.offset] = len(j.shown)
			j.shown = append(j.shown, r)
		}
	}
	for id, s := range j.said {
		j.copies = max(j.copies, j.inLog[id])
		if j.inLog[id] > 1 {
			j.repeated++
		}
		if !j.podsDied && j.inLog[id] > 2 {
			j.surplus++
			j.complain("message %s has %d copies; %s", id, j.inLog[id], s)
		}
		if s.rejected && j.inLog[id] > 0 {
			j.rejectedShown++
		}
	}
}

// A stretch is a part of a journal in which a client saw one log without a break.
type stretch struct {
	old       bool // of the topic that was lost
	next      int  // index in shown of what comes next
	mayMiss   bool // a gap was told, or the pod chose where to begin
	offset    int64
	seen      map[string]int64 // the offsets of messages
	ofSenders map[int]int      // the number of the last message of each
}

func newStretch(old, mayMiss bool) *stretch {
	return &stretch{old: old, mayMiss: mayMiss, offset: -1, seen: make(map[string]int64), ofSenders: make(map[int]int)}
}

// follow goes through what one client was shown.
func (j *judgement) follow(client journal) {
	s := newStretch(j.remade, false) // everybody comes when the topic is empty
	welcomes, delivered, resets, recovered := 0, 0, 0, false
	for _, e := range client.events {
		switch e.Kind {
		case chatclient.Welcomed:
			welcomes++
			switch {
			case e.Reason == chat.Gap:
				j.gaps++
				s.mayMiss = true
			case e.Reason == chat.Reset:
				resets++
				s = newStretch(false, true) // it starts at the newest messages
			case e.Reason == chat.Fresh && welcomes > 1:
				resets++
				s = newStretch(s.old && resets == 1, true)
			}
		case chatclient.Gap:
			j.gaps++
			s.mayMiss = true
		case chatclient.Reset:
			resets++
			s = newStretch(false, false)
		case chatclient.Message:
			delivered++
			j.message(client.name, s, e)
			if said := j.said[e.ID]; !recovered && said != nil && said.at.After(j.ended) {
				recovered = true
				j.recovery = append(j.recovery, e.At.Sub(j.ended))
			}
			j.ack(client.name, s, e)
		case chatclient.Acked:
			j.ack(client.name, s, e)
		}
	}
	j.resets += resets
	switch {
	case s.old:
		j.untold++
		j.complain("%s was never told that the topic is another one", client.name)
	case !s.mayMiss && s.next < len(j.shown):
		j.lost += len(j.shown) - s.next
		j.complain("%s was shown nothing from offset %d on; the topic goes on to %d", client.name, j.shown[s.next].offset, j.shown[len(j.shown)-1].offset)
	}
	if !recovered {
		j.silent++
		j.complain("%s was shown no message that was written after the fault", client.name)
	}
	j.most = max(j.most, delivered)
	if j.fewest < 0 || delivered < j.fewest {
		j.fewest = delivered
	}
}

// message judges one message that a client was shown.
func (j *judgement) message(client string, s *stretch, e chatclient.Event) {
	if e.ID != "" {
		said := j.said[e.ID]
		if first, ok := s.seen[e.ID]; ok {
			j.doubled++
			j.complain("%s was shown message %s of offset %d again at offset %d; %s", client, e.ID, first, e.Offset, said)
			return
		}
		s.seen[e.ID] = e.Offset
		if said != nil {
			if said.rejected {
				j.rejectedShown++
			}
			if said.number < s.ofSenders[said.sender] {
				j.outOfOrder++
				j.complain("%s was shown message %d of client %d after message %d", client, said.number, said.sender, s.ofSenders[said.sender])
			}
			s.ofSenders[said.sender] = max(said.number, s.ofSenders[said.sender])
		}
	}
	if e.Offset <= s.offset {
		j.otherOrder++
		j.complain("%s was shown offset %d after offset %d", client, e.Offset, s.offset)
		return
	}
	s.offset = e.Offset
	if s.old {
		if id, ok := j.before[e.Offset]; ok && id != e.ID {
			j.otherOrder++
			j.complain("%s was shown %s at offset %d, another client %s", client, e.ID, e.Offset, id)
		}
		j.before[e.Offset] = e.ID
		return
	}
	at, ok := j.shownAt[e.Offset]
	if !ok || j.shown[at].id != e.ID {
		j.otherOrder++
		j.complain("%s was shown %s at offset %d, where the topic has something else", client, e.ID, e.Offset)
		return
	}
	if at > s.next && !s.mayMiss {
		j.lost += at - s.next
		j.complain("%s was shown offset %d, but not the %d records from %d on before it", client, e.Offset, at-s.next, j.shown[s.next].offset)
	}
	s.next, s.mayMiss = at+1, false
}

// ack notes that the sender learned that its message is in the topic, and holds the pod to it.
func (j *judgement) ack(client string, s *stretch, e chatclient.Event) {
	said := j.said[e.ID]
	if said == nil || j.journals[said.sender].name != client {
		return
	}
	if !said.acked {
		said.acked = true
		j.acked++
	}
	if !s.old && j.inLog[e.ID] == 0 {
		j.lost++
		j.complain("%s was told that %s is in the topic at offset %d, and it is not", client, e.ID, e.Offset)
	}
}

func (j *judgement) answers() {
	for id, s := range j.said {
		switch {
		case s.rejected:
			j.rejected++
		case !s.acked && !s.givenUp:
			j.unanswered++
			j.complain("nothing was heard of message %s; %s", id, s)
		}
	}
}
