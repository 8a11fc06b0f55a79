//go:build faults

package faults

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/chatclient"
	"kafkachat/chatserver/internal/podtest"
)

// podRows are faults of pods that hit messages on their way.
func podRows(where way) []row {
	return []row{
		{name: "a pod is killed (-9)", podsDied: true, fault: func(w *world) {
			p := w.pods[0]
			if where == unanswered {
				// The others have not read what it has stored when its clients come to them.
				setFault(w, w.pods[1:], late(time.Second/2, time.Second))
			}
			w.hold(where, p)
			p.asked = true
			p.Kill()
			w.ended = time.Now()
			sleep(w.ctx, w.during(2*time.Second))
			heal(w.pods[1:])
			w.hide(p) // until now new clients were sent to it, too
			w.startPods(1)
		}},
		{name: "a pod is stopped (SIGTERM)", fault: func(w *world) {
			w.hold(where, w.pods[0])
			w.stop(w.pods[0])
		}},
		{name: "a pod is frozen (SIGSTOP)", fault: func(w *world) {
			p := w.pods[0]
			w.hold(where, p)
			err := p.Pause()
			release(p)
			w.hide(p)
			sleep(w.ctx, w.during(10*time.Second))
			if err := errors.Join(err, p.Resume()); err != nil {
				w.t.Error(err)
			}
		}},
	}
}

// steadyRows are faults of pods that come and go.
func steadyRows() []row {
	all := []row{
		{name: "rolling restart of all pods", fault: (*world).replaceAll},
		{name: "scale 2 → 4 → 1", pods: 2, fault: func(w *world) {
			w.startPods(2)
			for _, p := range w.people {
				if w.rng.IntN(2) == 0 {
					p.Hop() // some come to the new pods
				}
			}
			sleep(w.ctx, w.during(3*time.Second))
			w.stop(w.pods[:3]...)
		}},
		{
			name: "rolling restart of 4 pods with 2,000 clients", pods: 4, people: 2000, rate: 5,
			fault: (*world).replaceAll, check: (*world).checkDrains,
		},
	}
	// firstEdition is the last commit of the first edition: not all clones have it.
	const firstEdition = "775e689"
	if exec.Command("git", "cat-file", "-e", firstEdition+"^{commit}").Run() != nil {
		return all
	}
	return append(all, row{name: "rolling update from the first edition, and back", edition: firstEdition, fault: func(w *world) {
		first := w.server
		w.server = w.today
		w.startPods(1)
		for _, p := range w.pods {
			w.awaitPods(p)
		}
		w.replaceAll()
		w.server = first
		w.replaceAll()
	}})
}

// replaceAll replaces pod after pod, as a deployment does: the new one is ready first.
func (w *world) replaceAll() {
	w.mu.Lock()
	old := slices.Clone(w.services)
	w.mu.Unlock()
	for _, p := range old {
		w.startPods(1)
		w.stop(p)
	}
}

// checkDrains checks that nobody had to move more often than pods were replaced, and that no pod
// sent away two thirds of its clients within 0.3 s. A pod takes more than three seconds for all: this
// process may have no processor for one or two of them.
func (w *world) checkDrains() (wrong string) {
	const window = 300 * time.Millisecond
	left := make(map[string][]time.Time)
	for _, p := range w.people {
		at, moves := "", 0
		for _, e := range p.journal.events {
			switch {
			case e.Kind == chatclient.Welcomed:
				at = e.Pod
			case at != "" && (e.Kind == chatclient.SentAway || e.Kind == chatclient.Left && e.At.Before(w.left)):
				left[at] = append(left[at], e.At)
				at = ""
				moves++
			}
		}
		if replaced := len(w.pods) / 2; moves > replaced {
			wrong += fmt.Sprintf("%s had to move %d times, and %d pods were replaced; ", p.journal.name, moves, replaced)
		}
	}
	for pod, times := range left {
		slices.SortFunc(times, time.Time.Compare)
		worst := 0
		for i, t := range times {
			first, _ := slices.BinarySearchFunc(times, t.Add(-window), time.Time.Compare)
			worst = max(worst, i+1-first)
		}
		w.t.Logf("%s sent %d clients away in %s, at most %d of them at once", pod, len(times), times[len(times)-1].Sub(times[0]), worst)
		if worst*3 > len(times)*2 {
			wrong += fmt.Sprintf("%s sent %d of %d clients away within %s; ", pod, worst, len(times), window)
		}
	}
	return wrong
}

// build builds the server of a commit.
func build(t *testing.T, commit string) (server string) {
	t.Helper()
	source := t.TempDir()
	script := `git -C "$(git rev-parse --show-toplevel)" archive "$0" | tar -x -C "$1"`
	if out, err := exec.Command("sh", "-c", script, commit, source).CombinedOutput(); err != nil {
		t.Fatalf("unpacking %s: %v\n%s", commit, err, out)
	}
	return podtest.BuildIn(t, source)
}

// awaitPods waits until the pod tells its clients of all pods.
func (w *world) awaitPods(p *pod) {
	w.t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{chat.Protocol}}
	ws, _, err := dialer.Dial("ws://"+p.Addr+"/ws", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer ws.Close()
	ws.SetReadDeadline(time.Now().Add(patience))
	for {
		_, event, err := ws.ReadMessage()
		if err != nil {
			w.t.Errorf("pod %s did not tell of all %d pods: %v", p.Name, len(w.pods), err)
			return
		}
		if !slices.ContainsFunc(w.pods, func(p *pod) bool { return !strings.Contains(string(event), `"pod":"`+p.Name+`"`) }) {
			return
		}
	}
}
