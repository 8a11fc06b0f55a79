package lesson_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// The lab's first stage: what one says in a window is seen in all windows of the pod, and in none of
// another pod. On a port that is in use the program says so, and not where to open the page.
func TestFirst(t *testing.T) {
	t.Parallel()
	file := build(t, "chatserver/lesson/first")
	var windows []*websocket.Conn // two of pod a, two of pod b
	for _, pod := range []string{"a", "b"} {
		a := launch(t, file, "POD_NAME="+pod)
		_, port, _ := net.SplitHostPort(a.addr)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute) // a program that listens does not end
		defer stop()
		second := exec.CommandContext(ctx, file)
		second.Env = append(os.Environ(), "PORT="+port)
		if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "set PORT to another port") || strings.Contains(string(out), "open") {
			t.Errorf("a second program on the same port: %v, %s", err, out)
		}
		response, err := http.Get("http://" + a.addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		page, _ := io.ReadAll(response.Body)
		response.Body.Close()
		for _, words := range []string{"<title>Connected to Pod " + pod + "</title>", "<h1>Chatting on " + pod + "</h1>", "Connection closed"} {
			if !strings.Contains(string(page), words) {
				t.Errorf("the page has no %q", words)
			}
		}
		windows = append(windows, a.open(t), a.open(t))
	}
	reads := func(i int, want string) {
		t.Helper()
		windows[i].SetReadDeadline(time.Now().Add(time.Minute))
		if _, text, err := windows[i].ReadMessage(); string(text) != want {
			t.Fatalf("window %d reads %q (%v), want %q", i, text, err, want)
		}
	}
	for i, said := range []string{"hello a", "hello a", "hello b", "hello b"} {
		// A window sees what it says itself, which also tells that the pod knows it.
		windows[i].WriteMessage(websocket.TextMessage, []byte(said))
		reads(i, said)
	}
	reads(0, "hello a")
}
