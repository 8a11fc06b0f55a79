package sockets

import "time"

// Both are called before Run.
func (l *Loop) SetTick(tick time.Duration) { l.tick = tick }
func (l *Loop) WriteWithDeadlines()        { l.out = writeWithDeadline }
