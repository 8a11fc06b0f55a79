//go:build faults

package faults

import (
	"cmp"
	"time"
)

// A row is one fault, as the table has it.
type row struct {
	name    string
	brokers int // 0: one
	pods    int // at the beginning; 0: three
	people  int // 0: fullPeople
	slow    int // of them, with small socket buffers
	rate    int // messages in a second, of all; 0: 500
	filler  int // bytes added to each message
	env     []string
	edition string // commit of the pods at the beginning; "": today's
	// fault happens while there is load, and returns when it has ended.
	fault func(w *world)

	check func(w *world) (wrong string) // at the end; may be nil

	remade, podsDied bool // as in evidence
	gaps             bool // may be told
}

const (
	fullPeople = 54
	slowBuffer = 64 << 10
)

// rows are all faults, in the order of the table.
func rows() []row {
	var all []row
	for _, rowsOf := range []func(way) []row{podRows, brokerRows, networkRows} {
		before, after := rowsOf(unstored), rowsOf(unanswered)
		for i := range before {
			before[i].name += ", before messages are stored"
			after[i].name += ", after messages are stored, before the answer"
			all = append(all, before[i], after[i])
		}
	}
	all = append(all, steadyRows()...)
	all = append(all, readerRows()...)
	all = append(all, clientRows()...)
	return append(all, topicRows()...)
}

// happen brings the fault about under load, and judges what the people saw.
func (r row) happen(w *world) *verdict {
	w.env = r.env
	if r.edition != "" {
		w.server = build(w.t, r.edition)
	}
	w.startPods(cmp.Or(r.pods, 3))
	w.invite(cmp.Or(r.people, fullPeople)-r.slow, 0)
	w.slow = w.invite(r.slow, slowBuffer)
	w.talkAll(cmp.Or(r.rate, 500), r.filler)
	sleep(w.ctx, w.lead())
	r.fault(w)
	if w.ended.IsZero() {
		w.ended = time.Now()
	}
	sleep(w.ctx, max(time.Until(w.begun.Add(w.length)), w.lead()))
	w.finish()

	e := w.evidence()
	e.remade, e.podsDied = r.remade, r.podsDied
	v := judge(e)
	w.t.Logf("the fault ended at %s\n%s", w.ended.UTC().Format("15:04:05.000"), &table{{r.name, 1, v}})
	wrong := v.wrong() + w.crashed()
	if v.n[gaps] > 0 && !r.gaps {
		wrong += "gaps were told where there are none; "
	}
	if v.n[resets] > 0 && !r.remade {
		wrong += "resets were told where there are none; "
	}
	if r.check != nil {
		wrong += r.check(w)
	}
	if wrong != "" {
		w.t.Error(wrong)
		for _, c := range v.complaints {
			w.t.Log(c)
		}
		for _, p := range w.pods {
			log := p.Log()
			w.t.Logf("the end of the log of %s:\n%s", p.Name, log[max(0, len(log)-8000):])
		}
	}
	return v
}

// lead is the time of load before and at least after a fault.
func (w *world) lead() time.Duration { return w.length / 5 }

// during is how long a fault lasts that takes as long as it is wished: full, if there is time.
func (w *world) during(full time.Duration) time.Duration { return min(full, w.length/2) }
