package publish

import (
	"context"
	"testing"
)

// emptyLog has been read up to an offset, and has no ids.
type emptyLog int64

func (l emptyLog) Find(string) (int64, bool)          { return 0, false }
func (l emptyLog) Next() int64                        { return int64(l) }
func (l emptyLog) HasRead(end int64) bool             { return end <= int64(l) }
func (l emptyLog) End(context.Context) (int64, error) { return int64(l), nil }
func (l emptyLog) Behind() bool                       { return false }
func (l emptyLog) Suspect()                           {}

// A broker that has lost its last records gives their offsets again: whoever waits for one of them is
// told, by the next message at that offset, or when the topic is read by another consumer.
func TestWhatABrokerHasLost(t *testing.T) {
	t.Parallel()
	p := New(nil, "test", "chat", emptyLog(100), func(error) {}, nil)
	first, second := p.register("first"), p.register("second")
	p.expect(first, 0, 100, 100)
	p.expect(second, 0, 100, 100)
	if len(first.lost) != 1 || len(second.lost) != 0 {
		t.Errorf("two messages at one offset: told %d, %d", len(first.lost), len(second.lost))
	}
	p.Reopened()
	if len(second.lost) != 1 || len(p.expected) != 0 {
		t.Errorf("another consumer: told %d, and %d are expected", len(second.lost), len(p.expected))
	}
}
