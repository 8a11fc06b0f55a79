//go:build mutants

package faults

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
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
	wraps []wrap
	test  string // arguments of go test
	wrong string // a regular expression: what the tests then say
}

// A wrap puts another function in the place of one that it names, which stays callable with the
// prefix "original". So a mutant depends on the name and the signature of a function, not on its
// text.
type wrap struct {
	dir      string // of the package, from the repository's root
	function string // Name, or (Type).Name for a method
	code     string // of the new function
}

func mutants() []mutant {
	const suite = "-tags faults -timeout 20m ./chatserver/faults/ -run TestFaults//"
	return []mutant{
		{"dedupe: copies of a record are shown", []wrap{{"chatserver/internal/chat", "(Window).Add",
			`func (w *Window) Add(id string, offset int64) (int64, bool) { w.originalAdd(id, offset); return offset, false }`}},
			suite + "while_clients_hop", "doubled"},
		{"resume: a client that comes back gets only what is new", []wrap{{"chatserver/internal/history", "(client).start",
			`func (c *client) start(log *framelog.Log, from, end int64, reason string) sockets.Placement { return c.originalstart(log, end, end, reason) }`}},
			suite + "each_client_is_cut", "lost"},
		{"resend: a client does not send again what was not acknowledged", []wrap{{"chatserver/internal/chatclient", "(Client).sendAll",
			`func (c *Client) sendAll(states ...state) { c.originalsendAll(waiting) }`}},
			suite + "a_pod_is_killed.*before_messages", "unanswered"},
		{"read-back: a message is acknowledged on the producer's word, with acks=1", []wrap{{"chatserver/internal/publish", "(Publisher).Publish",
			`func (p *Publisher) Publish(ctx context.Context, id string, again bool, send Send) (int64, error) {
				return p.originalPublish(ctx, id, again, func(producer sarama.SyncProducer) (int32, int64, error) {
					partition, offset, err := send(producer)
					if err == nil {
						p.Read(id, offset)
					}
					return partition, offset, err
				})
			}`},
			{"internal/kafka", "(Cluster).Config",
				`func (c *Cluster) Config(ctx context.Context, clientID string) *sarama.Config {
				config := c.originalConfig(ctx, clientID)
				config.Producer.RequiredAcks = sarama.WaitForLocal
				return config
			}`}},
			suite + "before_the_others_have_copied", "lost"},
		{"position: only an offset, without the record's hash", []wrap{{"chatserver/internal/chat", "Sum",
			`func Sum(r *sarama.ConsumerMessage, id string) uint32 { return 0 * originalSum(r, id) }`}},
			suite + "wiped,_and_has_more", "not told"},
		{"settling: what was not acknowledged is sent again though the topic has not been read to its end", []wrap{{"chatserver/internal/publish", "(Publisher).search",
			`func (p *Publisher) search(ctx context.Context, id string, w *waiter) (int64, bool, error) {
				_ = p.originalsearch
				time.Sleep(firstPause)
				return 0, false, ctx.Err()
			}`}},
			suite + "one_answer_in_three", "too many copies"},
		{"draining: a pod that stops closes all connections at once", []wrap{{"chatserver/internal/sockets", "(Loop).Drain",
			`func (l *Loop) Drain(limit time.Duration, payload []byte, code int, reason string) { l.originalDrain(drainGrace, payload, code, reason) }`}},
			suite + "2,000_clients", "clients away within"},
		{"readiness: a pod is ready before the first fetch has been answered", []wrap{{"chatserver/internal/history", "(History).Open",
			`func (h *History) Open(oldest, newest int64) int64 {
				from := h.originalOpen(oldest, newest)
				h.progress(newest)
				return from
			}`}},
			"./chatserver/internal/history -run TestStates", "ready"},
		{"pauses: they do not grow", []wrap{{"internal/kafka", "(Wait).Failed",
			`func (w *Wait) Failed(ctx context.Context, err error) bool { w.pause = 0; return w.originalFailed(ctx, err) }`}},
			"./internal/kafka -run TestWait$", ""},
		{"pace: bytes are not counted", []wrap{{"chatserver/internal/room", "(Client).pace",
			`func (c *Client) pace(bytes int) error { return c.originalpace(0) }`}},
			"./chatserver/internal/room -run TestPace", ""},
		{"deadline: a message may take for ever", []wrap{{"chatserver/internal/sockets", "(Conn).setReadDeadline",
			`func (c *Conn) setReadDeadline(t time.Time) { c.originalsetReadDeadline(time.Time{}) }`}},
			"./chatserver/internal/sockets -run TestMessageTime -timeout 60s", ""},
		{"errors: what is permanent is tried again", []wrap{{"internal/kafka", "KindOf",
			`func KindOf(err error) Kind { originalKindOf(err); return Passing }`}},
			"./internal/kafka -run TestKind|TestNotAllowed -timeout 60s", ""},
	}
}

// TestMutantsBuild takes seconds: a mutant whose function has another name or signature by now is found
// before the night in which it runs.
func TestMutantsBuild(t *testing.T) {
	root := repository(t)
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			cmd := exec.Command("go", "build", "-overlay="+m.overlay(t, root))
			cmd.Dir = root
			for _, w := range m.wraps {
				cmd.Args = append(cmd.Args, "./"+w.dir)
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("the mutant does not build:\n%s", out)
			}
		})
	}
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestMutants(t *testing.T) {
	root := repository(t)
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			overlay := m.overlay(t, root)
			cmd := exec.CommandContext(t.Context(), "go", strings.Fields("test -v -count=1 "+m.test)...)
			cmd.Dir = root
			// The suite builds the server by itself, with the same flags.
			cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]") {
				t.Fatalf("the mutant does not build:\n%s", out)
			}
			found := regexp.MustCompile(`(?:_test\.go:\d+: |panic: )(.*` + m.wrong + `.*)`).FindStringSubmatch(string(out))
			if err == nil || found == nil {
				t.Fatalf("the tests did not notice (%v), and were to say %q:\n%s", err, m.wrong, out)
			}
			fmt.Printf("| %s | %s |\n", m.name, strings.TrimSuffix(found[1], "; "))
		})
	}
}

// overlay writes the files that the wraps change, and returns the file for go's flag -overlay.
func (m mutant) overlay(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	replace := make(map[string]string) // original file -> its stand-in
	for i, w := range m.wraps {
		file, text := w.apply(t, root, replace)
		replace[file] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(replace[file], text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// apply returns the file that has the function, and its text with the new one.
func (w wrap) apply(t *testing.T, root string, replaced map[string]string) (file string, text []byte) {
	t.Helper()
	dir := filepath.Join(root, w.dir)
	names, err := fs.Glob(os.DirFS(dir), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file := filepath.Join(dir, name)
		from := file
		if stand, ok := replaced[file]; ok {
			from = stand
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && functionName(f) == w.function {
				at := files.Position(f.Name.Pos()).Offset
				return file, []byte(string(text[:at]) + "original" + string(text[at:]) + "\n" + w.code + "\n")
			}
		}
	}
	t.Fatalf("%s has no function %s: the mutant needs another place", w.dir, w.function)
	return "", nil
}

// functionName returns the function's name, or (Type).Name for a method.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	return fmt.Sprintf("(%s).%s", receiver.(*ast.Ident).Name, f.Name.Name)
}
