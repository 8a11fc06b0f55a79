package lesson_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/internal/child"
)

// The lab's first stage: what one says in a window is seen in all windows of the pod, and in none of
// another pod. On a port that is in use the program says so, and not where to open the page.
func TestFirst(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "first")
	if out, err := exec.Command("go", "build", "-o", file, "kafkachat/chatserver/lesson/first").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var windows []*websocket.Conn // two of pod a, one of pod b
	for _, pod := range []string{"a", "b"} {
		addr := freeAddr(t)
		_, port, _ := net.SplitHostPort(addr)
		cmd := exec.Command(file)
		cmd.Env = append(os.Environ(), "PORT="+port, "POD_NAME="+pod)
		process, err := child.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(process.Kill)
		var page string
		if !wait(30*time.Second, func() bool { page = get("http://" + addr + "/"); return page != "" }) {
			t.Fatalf("pod %s does not answer", pod)
		}
		second := exec.Command(file)
		second.Env = cmd.Env
		if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "set PORT to another port") || strings.Contains(string(out), "open") {
			t.Errorf("a second program on the same port: %v, %s", err, out)
		}
		for _, words := range []string{"<title>Connected to Pod " + pod + "</title>", "<h1>Chatting on " + pod + "</h1>", "Connection closed"} {
			if !strings.Contains(page, words) {
				t.Errorf("the page has no %q", words)
			}
		}
		for range 2 {
			ws, err := dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			windows = append(windows, ws)
		}
	}
	for i, said := range []string{"hello a", "hello a", "hello b", "hello b"} {
		// A window sees what it says itself, which also tells that the pod knows it.
		windows[i].WriteMessage(websocket.TextMessage, []byte(said))
		windows[i].SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, text, err := windows[i].ReadMessage(); string(text) != said {
			t.Fatalf("window %d reads %q (%v), want %q", i, text, err, said)
		}
	}
	if _, text, err := windows[0].ReadMessage(); string(text) != "hello a" {
		t.Errorf("the other window of the pod reads %q (%v)", text, err)
	}
}

func get(url string) string {
	response, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return string(body)
}

// freeAddr is for programs that want to be told their port.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
