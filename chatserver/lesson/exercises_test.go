//go:build exercises

// The checks of the exercises in README.md, for what TestSeeItFail does not check. They fail until the
// exercise is solved.
package lesson_test

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// What is said in a room is seen in that room only, on both pods of ./naive, in the topic's order.
func TestRooms(t *testing.T) {
	a := versions(t)[0].start(t, kafkatest.Broker(t))
	b := a.launch(t, a.kafka, a.topic)
	b.naivePage(t, b.addr) // so that its consumer reads
	rooms := []string{"red", "blue"}
	var windows []*websocket.Conn // red and blue of one pod, and of the other
	for _, pod := range []app{a, b} {
		for _, room := range rooms {
			ws, _, err := websocket.DefaultDialer.Dial("ws://"+pod.addr+"/ws?room="+room, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			windows = append(windows, ws)
		}
	}
	time.Sleep(time.Second) // naive does not say when it has a client in its map
	const said = 20
	for i := range said {
		for n, ws := range windows[:2] {
			ws.WriteMessage(websocket.TextMessage, []byte(fmt.Sprint(rooms[n], " ", i)))
		}
	}
	for n, ws := range windows {
		for i := range said {
			reads(t, ws, fmt.Sprint(rooms[n%2], " ", i))
		}
	}
}

// kafkaread says once a second how many records are to come, also while nobody reads its stdout.
func TestBehind(t *testing.T) {
	kafka := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, kafka)
	const records = 100_000
	lines := make([]string, records)
	for i := range lines {
		lines[i] = "line " + strconv.Itoa(i)
	}
	kafkatest.Produce(t, kafka, topic, lines...)
	stdout, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	p := clitest.New(t, kafka, topic, build(t, "kafkaread"), "-offset", "oldest")
	p.Cmd.Stdout = in
	p.Start()
	in.Close()
	p.WaitFor(&p.Err, `(?s)(records to come.*){3}`) // nobody reads stdout: a pipe holds some thousand lines
	told := regexp.MustCompile(`(\d+) records? to come`)
	for _, m := range told.FindAllStringSubmatch(p.Err.String(), -1) {
		if n, _ := strconv.Atoi(m[1]); n < records/2 || n > records {
			t.Errorf("it says %d records to come, of %d of which a few thousand are printed", n, records)
		}
	}
	scanner := bufio.NewScanner(stdout)
	for i := range records {
		if !scanner.Scan() || scanner.Text() != lines[i] {
			t.Fatalf("stdout has %q instead of %q", scanner.Text(), lines[i])
		}
	}
	time.Sleep(1500 * time.Millisecond)
	before := len(told.FindAllString(p.Err.String(), -1))
	time.Sleep(3 * time.Second)
	if after := len(told.FindAllString(p.Err.String(), -1)); after > before {
		t.Errorf("it is not behind, and still says so:\n%s", p.Err.String())
	}
}
