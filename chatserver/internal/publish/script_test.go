package publish_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/publish"
	"kafkachat/internal/kafka"
)

// A script is a log, and a Kafka that answers as a test says, in fake time.
type script struct {
	publisher *publish.Publisher
	records
	// Guarded by mu, too.
	end     int64 // of the topic
	answers []any // to sends, one after another
	sends   int
	reasons []string // that were reported, as a person is told
}

func (s *script) End(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end, nil
}

// after changes something after so many seconds.
func (s *script) after(seconds time.Duration, change func()) {
	time.AfterFunc(seconds*time.Second, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		change()
	})
}

// found makes the topic longer, and the pod read the message there.
func (s *script) found() {
	s.end = 150
	s.after(1, func() { s.next, s.ids["id"] = 150, 140 })
}

// answer is the next answer of Kafka.
func (s *script) answer(p sarama.SyncProducer) (int32, int64, error) {
	s.mu.Lock()
	answer := s.answers[min(s.sends, len(s.answers)-1)]
	s.sends++
	s.mu.Unlock()
	switch answer := answer.(type) {
	case error:
		return 0, 0, answer
	case int64: // the producer says so, and it is not there
		return 0, answer, nil
	case time.Duration: // it takes so long
		time.Sleep(answer)
	case string: // it looks for a broker for ever
		return p.SendMessage(&sarama.ProducerMessage{Topic: "chat"})
	}
	s.mu.Lock()
	s.ids["id"], s.next, s.end = 300, 301, 301
	s.mu.Unlock()
	s.publisher.Read("id", 300)
	return 0, 300, nil
}

// bubble runs a test with a topic that has been read up to 100.
func bubble(t *testing.T, answers []any, test func(t *testing.T, s *script)) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{records: records{next: 100, ids: make(map[string]int64)}, end: 100, answers: answers}
		s.publisher = publish.New(&kafka.Cluster{Brokers: []string{"127.0.0.1:1"}}, "test", "chat", s, func(_ string, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.reasons = append(s.reasons, cmp.Or(publish.Reason(err), "up"))
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.publisher.Run(ctx) })
		test(t, s)
		cancel()
		running.Wait()
	})
}

// When a message is sent, or sent again, and when it is only looked for.
func TestSends(t *testing.T) {
	t.Parallel()
	away, lost, sent := errors.New("away"), int64(100), 300
	for name, c := range map[string]struct {
		answers []any
		again   bool
		begin   func(s *script)
		sends   int
		offset  int64
	}{
		"it is known":                {nil, false, func(s *script) { s.ids["id"] = 7 }, 0, 7},
		"again: it was there":        {nil, true, (*script).found, 0, 140},
		"behind: it was there":       {nil, false, func(s *script) { s.behind = true; s.found() }, 0, 140},
		"again: it was not there":    {[]any{sent}, true, func(*script) {}, 1, 300},
		"no answer":                  {[]any{away, sent}, false, func(*script) {}, 2, 300},
		"no answer, and it is there": {[]any{away}, false, (*script).found, 1, 140},
		"no answer, and another consumer finds it": {[]any{away}, false, func(s *script) {
			s.end = 150
			s.after(1, func() { s.next, s.consumer = 8, 1 })
			s.after(2, func() { s.next, s.ids["id"] = 150, 140 })
		}, 1, 140},
		"no answer, and it is read": {[]any{away}, false, func(s *script) {
			s.end = 150
			s.after(1, func() { s.publisher.Read("id", 140) })
		}, 1, 140},
		"lost, another record is there": {[]any{lost, sent}, false, func(s *script) { s.after(1, func() { s.next, s.end = 101, 101 }) }, 2, 300},
		"lost, another consumer reads":  {[]any{lost, sent}, false, func(s *script) { s.after(1, func() { s.consumer++ }) }, 2, 300},
		"a shorter topic, not noticed yet": {[]any{int64(7)}, false, func(s *script) {
			s.end = 8
			s.after(1, func() { s.next, s.consumer, s.ids["id"] = 8, 1, 7 })
		}, 1, 7},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.answers, func(t *testing.T, s *script) {
				c.begin(s)
				begun := time.Now()
				offset, err := s.publisher.Publish(t.Context(), "id", c.again, s.answer)
				if err != nil || offset != c.offset || s.sends != c.sends || time.Since(begun) > 3*time.Second {
					t.Errorf("published at %d, %v, after %d sends and %v", offset, err, s.sends, time.Since(begun))
				}
			})
		})
	}
}

// What is reported last is how things are, and when nobody sends any more a failure is forgotten. A message waits as
// long as its sender does and no longer, also inside of a send that nobody answers.
func TestReports(t *testing.T) {
	t.Parallel()
	const down, refuses = "Kafka is not reachable", "Kafka does not take messages now"
	away, sent := errors.New("away"), 300
	for name, c := range map[string]struct {
		answers  []any
		patience time.Duration // of who sends
		want     string
	}{
		"slow, then it works":         {[]any{5 * time.Second}, time.Minute, down + ", up"},
		"fails, and fails, and works": {[]any{away, away, sent}, time.Minute, down + ", up"},
		"refused":                     {[]any{sarama.ErrNotEnoughReplicas, sent}, time.Minute, refuses + ", up"},
		"refused for good":            {[]any{sarama.ErrMessageSizeTooLarge}, time.Second, "up"},
		"fails, and nobody waits":     {[]any{away}, 20 * time.Millisecond, down + ", up"},
		"slow, and nobody waits":      {[]any{20 * time.Second}, 4 * time.Second, down + ", up"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.answers, func(t *testing.T, s *script) {
				ctx, cancel := context.WithTimeout(t.Context(), c.patience)
				defer cancel()
				begun := time.Now()
				_, err := s.publisher.Publish(ctx, "id", false, s.answer)
				if took := time.Since(begun); took > c.patience || errors.Is(err, publish.ErrRejected) != (name == "refused for good") {
					t.Errorf("%v after %v", err, took)
				}
				if err != nil { // and nobody sends any more
					time.Sleep(11 * time.Second)
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				if got := strings.Join(slices.Compact(s.reasons), ", "); got != c.want {
					t.Errorf("reported %q, want %q", got, c.want)
				}
			})
		})
	}
}

// A topic that refuses each message is tried ever more seldom, by all senders together; and soon again
// when it has taken one.
func TestPauses(t *testing.T) {
	t.Parallel()
	refused := sarama.ErrNotEnoughReplicas
	bubble(t, []any{refused}, func(t *testing.T, s *script) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		producers := make(map[sarama.SyncProducer]bool)
		send := func(p sarama.SyncProducer) (int32, int64, error) {
			time.Sleep(time.Millisecond)
			s.mu.Lock()
			producers[p] = true
			s.mu.Unlock()
			return s.answer(p)
		}
		var senders sync.WaitGroup
		for range 10 {
			senders.Go(func() { s.publisher.Publish(ctx, "id", false, send) })
		}
		senders.Wait()
		time.Sleep(time.Second)
		if s.sends > 70*10 || s.sends < 50*10 || len(producers) > 70 {
			t.Errorf("%d sends in a minute by %d producers", s.sends, len(producers))
		}
		for _, answers := range [][]any{{300}, {refused, 300}} {
			s.answers, s.sends = answers, 0
			clear(s.ids)
			begun := time.Now()
			if _, err := s.publisher.Publish(t.Context(), "id", false, s.answer); err != nil || time.Since(begun) > 100*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		}
	})
}

// A send that hangs is given up after ten seconds: its connections are closed.
func TestHungSend(t *testing.T) {
	t.Parallel()
	bubble(t, []any{"hangs", 300}, func(t *testing.T, s *script) {
		begun := time.Now()
		_, err := s.publisher.Publish(t.Context(), "id", false, s.answer)
		if took := time.Since(begun); err != nil || took < 10*time.Second || took > 12*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}
