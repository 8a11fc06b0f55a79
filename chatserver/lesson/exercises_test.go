//go:build exercises

// The checks of the exercises in README.md, for what TestSeeItFail does not check. They fail until the
// exercise is solved.
package lesson_test

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/internal/child"
	"kafkachat/internal/kafkatest"
)

// Two rooms, on two pods of ./naive: what is said in a room is seen in that room, on both pods, in the
// topic's order, and nowhere else.
func TestRooms(t *testing.T) {
	kafka := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, kafka)
	naive := versions(t)[0]
	pods := []app{naive.start(t, kafka, topic), naive.start(t, kafka, topic)}
	type window struct {
		room string
		ws   *websocket.Conn
	}
	var windows []window
	for _, pod := range pods {
		for _, room := range []string{"red", "blue"} {
			ws, _, err := websocket.DefaultDialer.Dial("ws://"+pod.addr+"/ws?room="+room, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			windows = append(windows, window{room, ws})
		}
	}
	time.Sleep(500 * time.Millisecond) // naive does not say when it has a client in its map
	const said = 20
	for i := range said {
		for _, w := range windows[:2] {
			w.ws.WriteMessage(websocket.TextMessage, []byte(fmt.Sprint(w.room, " ", i)))
		}
	}
	for n, w := range windows {
		for i := range said {
			want := fmt.Sprint(w.room, " ", i)
			w.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, text, err := w.ws.ReadMessage()
			if err != nil {
				t.Fatalf("window %d waits for %q: %v", n, want, err)
			}
			if string(text) != want {
				t.Fatalf("window %d, of the room %s, reads %q, want %q", n, w.room, text, want)
			}
		}
	}
}

// kafkaread says how many records are still to come, on stderr, once a second while it is behind: also
// while nobody takes what it prints.
func TestBehind(t *testing.T) {
	kafka := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, kafka)
	const records = 100_000
	lines := make([]string, records)
	for i := range lines {
		lines[i] = "line " + strconv.Itoa(i)
	}
	kafkatest.Produce(t, kafka, topic, lines...)
	file := filepath.Join(t.TempDir(), "kafkaread")
	if out, err := exec.Command("go", "build", "-o", file, "kafkachat/kafkaread").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(file, "-offset", "oldest")
	cmd.Env = []string{"KAFKA_BROKER=" + kafka, "TOPIC=" + topic}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	process, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer process.Kill()

	behind := make(chan int, 1000) // what it says on stderr
	go func() {
		number := regexp.MustCompile(`(\d+) records? to come`)
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			if m := number.FindStringSubmatch(scanner.Text()); m != nil {
				n, _ := strconv.Atoi(m[1])
				behind <- n
			}
		}
	}()
	for i := range 3 { // nobody reads stdout: a pipe holds some thousand lines
		select {
		case n := <-behind:
			if n < records/2 || n > records {
				t.Errorf("it says %d records to come, of %d of which a few thousand are printed", n, records)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("nobody takes its output, and after %d lines it says no more how far behind it is", i)
		}
	}
	scanner := bufio.NewScanner(stdout)
	for i := range records {
		if !scanner.Scan() || scanner.Text() != lines[i] {
			t.Fatalf("stdout has %q instead of %q", scanner.Text(), lines[i])
		}
	}
	time.Sleep(1500 * time.Millisecond)
	for len(behind) > 0 {
		<-behind
	}
	select {
	case n := <-behind:
		t.Errorf("it is not behind, and says %d records to come", n)
	case <-time.After(3 * time.Second):
	}
}
