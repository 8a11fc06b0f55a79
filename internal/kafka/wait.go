package kafka

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/Shopify/sarama"
)

const (
	firstPause = 100 * time.Millisecond
	longPause  = 10 * time.Second // the pause grows to this
	// passingPause is as long as the pause grows for what passes by itself: a broker that is back
	// is to be used soon, and a connection that is refused costs nobody anything.
	passingPause = time.Second
	sayAgain     = time.Minute
)

// A Wait is between the attempts at something that fails: its pause grows from 0.1 s to 10 s (1 s
// for what passes by itself), and it says why it waits, once for each reason and once a minute.
// The zero value waits without a word. It belongs to one goroutine.
type Wait struct {
	// May be nil. err is the reason; nil: it works again, after a reason was said.
	Say   func(err error)
	After time.Duration // nothing is said of what passes within this

	pause  time.Duration        // the last one; 0 while all is well
	failed time.Time            // when the first attempt failed
	ended  time.Time            // when the last pause ended
	said   map[string]time.Time // when each reason was said last; nil: none was
}

// Failed says why, if that is new, and waits. The time that the attempt took counts as pause. It
// returns false when ctx has ended.
func (w *Wait) Failed(ctx context.Context, err error) bool {
	now := time.Now()
	if w.pause == 0 {
		w.failed, w.ended = now, now
	}
	longest := longPause
	if KindOf(err) == Passing {
		longest = passingPause
	}
	w.pause = min(max(firstPause, 2*w.pause), longest)
	if reason := spoken(err); ctx.Err() == nil && w.Say != nil && now.Sub(w.failed) >= w.After && now.Sub(w.said[reason.text]) >= sayAgain {
		if w.said == nil {
			w.said = make(map[string]time.Time)
		}
		w.said[reason.text] = now
		w.Say(reason)
	}
	timer := time.NewTimer(max(firstPause, w.pause-now.Sub(w.ended)))
	defer timer.Stop()
	select {
	case <-timer.C:
		w.ended = time.Now()
		return true
	case <-ctx.Done():
		return false
	}
}

// Worked says, if a reason was said, that it works again. The next pause is a short one.
func (w *Wait) Worked() {
	if w.said != nil {
		w.Say(nil)
	}
	w.pause, w.said = 0, nil
}

// spoken returns err in words that are the same when it comes again, without the client's port,
// which is another one for each connection.
func spoken(err error) *fault {
	text := regexp.MustCompile(`(dial|read|write) tcp (\S+->)?(\S+): (connect: )?`).ReplaceAllString(err.Error(), "$3: ")
	text = strings.ReplaceAll(text, sarama.ErrOutOfBrokers.Error(), "no broker can be reached")
	return newFault(err, "%s", strings.ReplaceAll(text, "\n\t* ", "; "))
}
