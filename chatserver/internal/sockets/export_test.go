package sockets

import "time"

// What the tests shorten or look at.
const (
	PingAfter  = pingAfter
	DeadAfter  = deadAfter
	StuckAfter = stuckAfter
)

// Tick returns the time between two sweeps.
func (l *Loop) Tick() time.Duration { return l.tick }

// SetTick is called before Run.
func (l *Loop) SetTick(tick time.Duration) { l.tick = tick }

// WriteWithDeadlines has l write as on a system without writes that do not wait. It is called before Run.
func (l *Loop) WriteWithDeadlines() { l.out = writeWithDeadline }
