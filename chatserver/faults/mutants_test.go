//go:build mutants

package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A mutant is the program with one protection taken away. The tests that are named have to fail.
type mutant struct {
	name  string
	test  string // arguments of go test
	wrong string // a regular expression: what the tests then say
	wraps []wrap
}

// A wrap puts a function in the place of the one that begins like it, which "original" then precedes.
type wrap struct{ file, code string }

func mutants() []mutant {
	const suite = "-tags faults -timeout 20m ./chatserver/faults/ -run TestFaults//"
	const in = "chatserver/internal/"
	return []mutant{
		{"dedupe: copies of a record are shown", suite + "while_clients_hop", "doubled", []wrap{{in + "chat/window.go",
			`func (w *Window) Add(id string, offset int64) (int64, bool) { w.originalAdd(id, offset); return offset, false }`}}},
		{"resume: a client that comes back gets only what is new", suite + "each_client_is_cut", "lost", []wrap{{in + "history/place.go",
			`func (c *client) start(log *framelog.Log, from, end int64, reason string) sockets.Placement {
				return c.originalstart(log, end, end, reason)
			}`}}},
		{"resend: a client does not send again what was not acknowledged", suite + "a_pod_is_killed.*before_messages", "unanswered",
			[]wrap{{in + "chatclient/outbox.go", `func (c *Client) sendAll(states ...state) { c.originalsendAll(waiting) }`}}},
		{"read-back: a message is acknowledged on the producer's word, with acks=1", suite + "before_the_others_have_copied", "lost", []wrap{
			{in + "publish/publish.go", `func (p *Publisher) Publish(ctx context.Context, id string, again bool, send Send) (int64, error) {
				return p.originalPublish(ctx, id, again, func(producer sarama.SyncProducer) (int32, int64, error) {
					partition, offset, err := send(producer)
					if err == nil {
						p.Read(id, offset)
					}
					return partition, offset, err
				})
			}`},
			{"internal/kafka/kafka.go", `func (c *Cluster) Config(ctx context.Context, clientID string) *sarama.Config {
				config := c.originalConfig(ctx, clientID)
				config.Producer.RequiredAcks = sarama.WaitForLocal
				return config
			}`}}},
		{"position: only an offset, without the record's hash", suite + "wiped,_and_has_more", "not told", []wrap{{in + "chat/chat.go",
			`func Sum(r *sarama.ConsumerMessage, id string) uint32 { return 0 * originalSum(r, id) }`}}},
		{"settling: what was not acknowledged is sent again though the topic has not been read to its end",
			suite + "one_answer_in_three", "too many copies", []wrap{{in + "publish/publish.go",
				`func (p *Publisher) search(ctx context.Context, id string, w *waiter) (int64, bool, error) {
				_ = p.originalsearch
				time.Sleep(firstPause)
				return 0, false, ctx.Err()
			}`}}},
		{"draining: a pod that stops closes all connections at once", suite + "2,000_clients", `sent \d+ clients away`, []wrap{{in + "sockets/drain.go",
			`func (l *Loop) Drain(limit time.Duration, payload []byte, reason string) { l.originalDrain(drainGrace, payload, reason) }`}}},
		{"readiness: a pod is ready before the first fetch has been answered", "./chatserver/internal/history -run TestStates", "ready",
			[]wrap{{in + "history/history.go", `func (h *History) open(oldest, newest int64) int64 {
				from := h.originalopen(oldest, newest)
				h.Reached(newest)
				return from
			}`}}},
		{"pauses: they do not grow", "./internal/kafka -run TestWait$", "", []wrap{{"internal/kafka/errors.go",
			`func (w *Wait) Failed(ctx context.Context, err error) bool { w.pause = 0; return w.originalFailed(ctx, err) }`}}},
		{"pace: bytes are not counted", "./chatserver/internal/room -run TestPace", "", []wrap{{in + "room/client.go",
			`func (c *Client) pace(bytes int) error { return c.originalpace(0) }`}}},
		{"deadline: a message may take for ever", "./chatserver/internal/sockets -run TestMessageTime -timeout 60s", "", []wrap{{in + "sockets/read.go",
			`func (c *Conn) setReadDeadline(t time.Time) { c.originalsetReadDeadline(time.Time{}) }`}}},
		{"errors: what is permanent is tried again", "./internal/kafka -run TestNotAllowed -timeout 60s", "", []wrap{{"internal/kafka/errors.go",
			`func KindOf(err error) Kind { originalKindOf(err); return Passing }`}}},
	}
}

// A mutant whose function has another name or signature by now is found before the night in which it runs.
func TestMutantsBuild(t *testing.T) {
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			args := []string{"build"}
			for _, w := range m.wraps {
				args = append(args, "./"+filepath.Dir(w.file))
			}
			if out, err := m.run(t, args...); err != nil {
				t.Errorf("the mutant does not build:\n%s", out)
			}
		})
	}
}

func TestMutants(t *testing.T) {
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			out, err := m.run(t, strings.Fields("test -v -count=1 "+m.test)...)
			found := regexp.MustCompile(`(?:_test\.go:\d+: |panic: )(.*` + m.wrong + `.*)`).FindStringSubmatch(string(out))
			if err == nil || found == nil {
				t.Fatalf("the tests did not notice (%v), and were to say %q:\n%s", err, m.wrong, out)
			}
			fmt.Printf("| %s | %s |\n", m.name, strings.TrimSuffix(found[1], "; "))
		})
	}
}

// run runs a command of go on the mutant. The suite builds the server by itself, with the same flags.
func (m mutant) run(t *testing.T, args ...string) (out []byte, err error) {
	root, err := filepath.Abs("../..")
	dir, replace := t.TempDir(), make(map[string]string) // a file -> its stand-in
	for _, w := range m.wraps {
		file := filepath.Join(root, w.file)
		original, readErr := os.ReadFile(file)
		head := regexp.MustCompile(`^func (\(.*?\) )?\w+\(`).FindString(w.code)
		before, after, found := strings.Cut(string(original), "\n"+head)
		if !found {
			t.Fatalf("%s has no %s: the mutant needs another place (%v)", file, head, readErr)
		}
		name := strings.LastIndex(head, " ") + 1
		text := before + "\n" + head[:name] + "original" + head[name:] + after + "\n" + w.code + "\n"
		replace[file] = filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		err = errors.Join(err, os.WriteFile(replace[file], []byte(text), 0o644))
	}
	text, _ := json.Marshal(map[string]any{"Replace": replace})
	overlay := filepath.Join(dir, "overlay.json")
	if err := errors.Join(err, os.WriteFile(overlay, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	return cmd.CombinedOutput()
}
