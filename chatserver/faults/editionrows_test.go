//go:build faults

package faults

import (
	"encoding/json"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/podtest"
)

// firstEdition is the last commit of the first edition.
const firstEdition = "775e689"

// editionRows have pods of both editions on one topic. Where the history does not go back so far there
// is none.
func editionRows() []row {
	if exec.Command("git", "cat-file", "-e", firstEdition+"^{commit}").Run() != nil {
		return nil
	}
	return []row{{name: "rolling update from the first edition, and back", edition: firstEdition, fault: func(w *world) {
		first, today := w.server, w.today
		w.server = today
		w.startPods(1)
		for _, p := range w.pods {
			w.awaitPods(p, w.pods)
		}
		w.replaceAll()
		w.server = first
		w.replaceAll()
	}}}
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

// awaitPods waits until the pod tells its clients of all the others.
func (w *world) awaitPods(p *pod, all []*pod) {
	w.t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{chat.Protocol}}
	ws, _, err := dialer.Dial("ws://"+p.Addr+"/ws", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer ws.Close()
	ws.SetReadDeadline(time.Now().Add(15 * time.Second))
	for {
		_, text, err := ws.ReadMessage()
		if err != nil {
			w.t.Errorf("pod %s did not tell of all %d pods: %v", p.Name, len(all), err)
			return
		}
		var event struct{ Pods []struct{ Pod string } }
		if err := json.Unmarshal(text, &event); err != nil {
			w.t.Fatal(err)
		}
		missing := slices.ContainsFunc(all, func(other *pod) bool {
			return !slices.ContainsFunc(event.Pods, func(e struct{ Pod string }) bool { return e.Pod == other.Name })
		})
		if !missing {
			return
		}
	}
}
