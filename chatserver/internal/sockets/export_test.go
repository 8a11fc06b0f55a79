package sockets

import "time"

// SetTick is called before Run, the others before the first connection comes.
func (l *Loop) SetTick(d time.Duration)      { l.tick = d }
func (l *Loop) SetCloseWait(d time.Duration) { l.closeWait = d }
func (l *Loop) WriteWithDeadlines()          { l.out = writeWithDeadline }

// Ticks is n ticks at once.
func (l *Loop) Ticks(n int) {
	done := make(chan struct{})
	l.post(func() {
		for range n {
			l.sweep()
		}
		close(done)
	})
	<-done
}
