package publish

import "slices"

// A waiter is one call of Publish.
type waiter struct {
	id      string
	offset  int64         // key in expected; -1: none
	seen    chan int64    // capacity 1: the offset of the record that is shown
	lost    chan struct{} // capacity 1: the record is not where the producer said
	settled chan struct{} // capacity 1: everything that was in the topic has been read
}

func (p *Publisher) register(id string) *waiter {
	w := &waiter{
		id: id, offset: -1,
		seen: make(chan int64, 1), lost: make(chan struct{}, 1), settled: make(chan struct{}, 1),
	}
	p.count.Add(1)
	p.mu.Lock()
	p.waiters[id] = append(p.waiters[id], w)
	p.mu.Unlock()
	return w
}

func (p *Publisher) unregister(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count.Add(-1)
	p.unexpect(w)
	others := slices.DeleteFunc(p.waiters[w.id], func(o *waiter) bool { return o == w })
	if len(others) == 0 {
		delete(p.waiters, w.id)
	} else {
		p.waiters[w.id] = others
	}
}

// expect notes where the producer says that the record is, which was sent when the log had been
// read up to read. It is false if the log is not the one that the record was sent to.
func (p *Publisher) expect(w *waiter, epoch int, offset, read int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if epoch != p.epoch {
		return false
	}
	p.unexpect(w)
	if other := p.expected[offset]; other != nil { // the log has lost what was there
		p.unexpect(other)
		tell(other.lost, struct{}{})
	}
	w.offset = offset
	p.expected[offset] = w
	// Noted first, compared second, like the id.
	if p.history.Next() > offset {
		if shown, ok := p.history.Find(w.id); ok {
			tell(w.seen, shown)
		} else if offset >= read {
			tell(w.lost, struct{}{})
		}
	}
	return true
}

// unexpect needs p.mu.
func (p *Publisher) unexpect(w *waiter) {
	if p.expected[w.offset] == w {
		delete(p.expected, w.offset)
	}
	w.offset = -1
}

// Read says that the record at offset has been read, and that the one that is shown for its id
// ("" for none) is at offset shown. It is called by one goroutine, in the order of the log,
// after the log has the record.
func (p *Publisher) Read(id string, offset, shown int64) {
	if p.count.Load() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.waiters[id] {
		tell(w.seen, shown)
	}
	if w := p.expected[offset]; w != nil {
		p.unexpect(w)
		if w.id != id {
			tell(w.lost, struct{}{})
		}
	}
	if offset != p.next && len(p.expected) > 0 { // a hole, or nobody waited for a while
		for o, w := range p.expected {
			if o < offset {
				delete(p.expected, o)
				w.offset = -1
				tell(w.lost, struct{}{})
			}
		}
	}
	p.next = offset + 1
}

// Reopened says that another consumer reads the topic from now on. The brokers may have lost records
// whose offsets the producer has given: who waits for one looks for it in the topic first.
func (p *Publisher) Reopened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.expected {
		w.offset = -1
		tell(w.lost, struct{}{})
	}
	clear(p.expected)
}

// Reset says that the topic is another log now: what was sent may be in neither.
func (p *Publisher) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch++
	clear(p.expected)
	for _, same := range p.waiters {
		for _, w := range same {
			w.offset = -1
			tell(w.lost, struct{}{})
		}
	}
}

// tell sends v unless there is a value already, which says the same.
func tell[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}
