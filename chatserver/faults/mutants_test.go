//go:build mutants

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A mutant is the repository with one protection taken away. The suite has to notice.
type mutant struct {
	name    string
	patches []patch
	row     string // the fault that shows it: a regular expression
	wrong   string // what the suite then says
}

// A patch is a piece of text that a file has once, and what comes into its place.
type patch struct{ file, old, new string }

func mutants() []mutant {
	return []mutant{
		{
			name: "dedupe: copies of a record are shown",
			patches: []patch{{
				"chatserver/internal/history/history.go",
				"case isCopy:",
				"case isCopy && false:",
			}},
			row: "while_clients_hop", wrong: "doubled",
		},
		{
			name: "resume: a client that comes back gets only what is new",
			patches: []patch{{
				"chatserver/internal/history/place.go",
				"case framelog.Here:\n\t\treturn c.start(log, end, max(",
				"case framelog.Here:\n\t\treturn c.start(log, end, end+0*max(",
			}},
			row: "each_client_is_cut", wrong: "lost",
		},
		{
			name: "resend: a client does not send again what was not acknowledged",
			patches: []patch{{
				"chatserver/internal/chatclient/events.go",
				"c.sendAll(sent, waiting)",
				"c.sendAll(waiting)",
			}},
			row: "a_pod_is_killed.*before_messages", wrong: "unanswered",
		},
		{
			name: "read-back: a message is acknowledged on the producer's word, with acks=1",
			patches: []patch{{
				"chatserver/internal/publish/publish.go",
				"case p.expect(w, epoch, offset",
				"case epoch >= 0:\n\t\t\treturn offset, nil\n\t\tcase p.expect(w, epoch, offset",
			}, {
				"internal/kafka/kafka.go",
				"config.Producer.RequiredAcks = sarama.WaitForAll",
				"config.Producer.RequiredAcks = sarama.WaitForLocal",
			}},
			row: "before_the_others_have_copied", wrong: "lost",
		},
		{
			name: "position: only an offset, without the record's hash",
			patches: []patch{{
				"chatserver/internal/chat/chat.go",
				"return crc32.Update(sum, table, r.Value)",
				"return 0 * crc32.Update(sum, table, r.Value)",
			}},
			row: "wiped,_and_has_more", wrong: "not told",
		},
		{
			name: "settling: what was not acknowledged is sent again though the topic has not been read to its end",
			patches: []patch{{
				"chatserver/internal/publish/settle.go",
				"for !p.history.HasRead(end) && epoch == p.epochNow() {",
				"for false && !p.history.HasRead(end) && epoch == p.epochNow() {",
			}},
			row: "one_answer_in_three", wrong: "too many copies",
		},
		{
			name: "draining: a pod that stops closes all connections at once",
			patches: []patch{{
				"chatserver/internal/sockets/drain.go",
				"message := farewell(comeBack)",
				"window = 0\n\tmessage := farewell(comeBack)",
			}},
			row: "2,000_clients", wrong: "clients away within",
		},
	}
}

func TestMutants(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			tree := t.TempDir()
			m.make(t, root, tree)
			suite := filepath.Join(tree, "faults.test")
			here := filepath.Join(tree, "chatserver", "faults")
			run(t, here, "go", "build", "-o", os.DevNull, "kafkachat/chatserver")
			run(t, here, "go", "test", "-c", "-tags", "faults", "-o", suite, ".")

			cmd := exec.CommandContext(t.Context(), suite, "-test.v", "-test.run", "TestFaults//"+m.row)
			cmd.Dir = here
			out, err := cmd.CombinedOutput()
			if !strings.Contains(string(out), "\n| ") {
				t.Fatalf("the suite did not come to its table: %v\n%s", err, out)
			}
			found := regexp.MustCompile(`rows_test\.go:\d+: (.*` + m.wrong + `.*)`).FindStringSubmatch(string(out))
			if err == nil || found == nil {
				t.Fatalf("the suite did not notice (%v), and was to say %q:\n%s", err, m.wrong, out)
			}
			fmt.Printf("| %s | %s |\n", m.name, strings.TrimSuffix(found[1], "; "))
		})
	}
}

// make copies the repository at root to tree, and takes the protection away.
func (m mutant) make(t *testing.T, root, tree string) {
	t.Helper()
	for _, part := range []string{"chatserver", "internal", ".ci"} {
		if err := os.CopyFS(filepath.Join(tree, part), os.DirFS(filepath.Join(root, part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(tree, file), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range m.patches {
		file := filepath.Join(tree, p.file)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), p.old); n != 1 {
			t.Fatalf("%s has %d times, and must have once:\n%s", p.file, n, p.old)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), p.old, p.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}
