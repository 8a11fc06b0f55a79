//go:build faults

package faults

import (
	"fmt"
	"slices"
	"time"

	"kafkachat/chatserver/internal/chatclient"
	"kafkachat/internal/child"
)

// podRows are faults of pods that hit messages on their way.
func podRows(where way) []row {
	return []row{
		{name: fmt.Sprint("a pod is killed (-9), ", where), podsDied: true, fault: func(w *world) {
			p := w.pods[0]
			if where == unanswered {
				// The others have not read what it has stored when its clients come to them.
				w.lag(time.Second/2, time.Second, w.pods[1:]...)
			}
			w.hold(where, p)
			p.kill()
			w.ended = time.Now()
			sleep(w.ctx, w.during(2*time.Second))
			for _, other := range w.pods[1:] {
				other.proxy.SetFault(nil)
			}
			w.hide(p) // until now new clients were sent to it, too
			w.startPods(1)
		}},
		{name: fmt.Sprint("a pod is stopped (SIGTERM), ", where), fault: func(w *world) {
			p := w.pods[0]
			w.hold(where, p)
			w.hide(p)
			p.terminate()
			p.awaitEnd(w.t)
		}},
		{name: fmt.Sprint("a pod is frozen (SIGSTOP), ", where), fault: func(w *world) {
			p := w.pods[0]
			w.hold(where, p)
			p.signal(w.t, (*child.Process).Pause)
			release(p)
			w.hide(p)
			sleep(w.ctx, w.during(10*time.Second))
			p.signal(w.t, (*child.Process).Resume)
		}},
	}
}

// steadyRows are faults of pods that come and go.
func steadyRows() []row {
	return []row{
		{name: "rolling restart of all pods", fault: func(w *world) { w.replaceAll() }},
		{name: "scale 2 → 4 → 1", pods: 2, fault: func(w *world) {
			w.startPods(2)
			for _, p := range w.people {
				if w.rng.IntN(2) == 0 {
					p.Hop() // some come to the new pods
				}
			}
			sleep(w.ctx, w.during(3*time.Second))
			for _, p := range w.pods[:3] {
				w.hide(p)
				p.terminate()
			}
			for _, p := range w.pods[:3] {
				p.awaitEnd(w.t)
			}
		}},
		{
			name: "rolling restart of 4 pods with 2,000 clients", pods: 4, people: 2000, rate: 5,
			fault: func(w *world) { w.replaceAll() }, check: (*world).checkDrains,
		},
	}
}

// replaceAll replaces pod after pod, as a deployment does: the new one is ready first.
func (w *world) replaceAll() {
	w.mu.Lock()
	old := slices.Clone(w.services)
	w.mu.Unlock()
	for _, p := range old {
		w.startPods(1)
		w.hide(p)
		p.terminate()
		p.awaitEnd(w.t)
	}
}

// checkDrains checks that nobody had to move more often than pods were replaced, and that no pod
// sent away more than a tenth of its clients within a tenth of a second.
func (w *world) checkDrains() (wrong string) {
	const window = 100 * time.Millisecond
	const share = 10 // a tenth
	left := make(map[string][]time.Time)
	for _, p := range w.people {
		at, moves := "", 0
		for _, e := range p.journal.events {
			switch {
			case e.Kind == chatclient.Welcomed:
				at = e.Pod
			case at != "" && (e.Kind == chatclient.SentAway || e.Kind == chatclient.Left && !w.goneHome(e.At)):
				left[at] = append(left[at], e.At)
				at = ""
				moves++
			}
		}
		if replaced := len(left); moves > len(w.pods)/2 {
			wrong += fmt.Sprintf("%s had to move %d times, and %d pods were replaced; ", p.journal.name, moves, replaced)
		}
	}
	for pod, times := range left {
		slices.SortFunc(times, time.Time.Compare)
		worst := 0
		for i, t := range times {
			began := t.Add(-window)
			// What came while this process had no processor came at any time in it.
			n, _ := slices.BinarySearchFunc(times, began, time.Time.Compare)
			if stood := w.stalls.within(began, t); stood > 0 {
				n += (i + 1 - n) * int(stood) / int(window+stood)
			}
			worst = max(worst, i+1-n)
		}
		w.t.Logf("%s sent %d clients away within %s, at most %d of them within %s",
			pod, len(times), times[len(times)-1].Sub(times[0]), worst, window)
		if worst*share > len(times) {
			wrong += fmt.Sprintf("%s sent %d of %d clients away within %s; ", pod, worst, len(times), window)
		}
	}
	return wrong
}
