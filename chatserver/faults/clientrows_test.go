//go:build faults

package faults

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/chatclient"
)

// clientRows are faults of the people's side.
func clientRows() []row {
	return []row{
		{name: "each client is cut every 1–3 s", fault: func(w *world) {
			w.eachNowAndThen(w.during(time.Hour), (*person).Cut)
		}},
		// The messages are long, so that sockets get full.
		{
			name: "a tenth of the clients stop reading", slow: fullPeople / 10,
			filler: 1500, env: []string{"LOG_BYTES=67108864"}, // what they miss fits into the log
			fault: func(w *world) { w.stopReading(w.during(15 * time.Second)) },
		},
		{
			name: "a tenth of the clients stop reading, and the pods remember little", slow: fullPeople / 10,
			filler: 1500, env: []string{"LOG_BYTES=2097152"}, gaps: true,
			fault: func(w *world) { w.stopReading(6 * time.Second) }, check: (*world).checkGaps,
		},
	}
}

// stopReading has the slow ones read nothing for a while.
func (w *world) stopReading(d time.Duration) {
	for _, p := range w.slow {
		p.Read(false)
	}
	sleep(w.ctx, d)
	for _, p := range w.slow {
		p.Read(true)
	}
}

// checkGaps checks that nobody but the slow ones was told of a gap.
func (w *world) checkGaps() (wrong string) {
	for _, p := range w.people {
		gap := func(e chatclient.Event) bool {
			return e.Kind == chatclient.Gap || e.Kind == chatclient.Welcomed && e.Reason == chat.Gap
		}
		if slices.ContainsFunc(p.journal.events, gap) && !slices.Contains(w.slow, p) {
			wrong += p.journal.name + " was told of a gap because of others; "
		}
	}
	return wrong
}

// eachNowAndThen does something to each person every 1-3 s, and returns after d.
func (w *world) eachNowAndThen(d time.Duration, do func(*person)) {
	pause := func(dice *rand.Rand) time.Duration { return between(dice, time.Second, 3*time.Second) }
	ctx, cancel := context.WithTimeout(w.ctx, d)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range w.people {
		dice := rand.New(rand.NewPCG(w.rng.Uint64(), 5))
		all.Go(func() {
			for sleep(ctx, pause(dice)); ctx.Err() == nil; sleep(ctx, pause(dice)) {
				do(p)
			}
		})
	}
	all.Wait()
}
