package broker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker that is killed while it writes has all that it acknowledged. Its folder is for its owner,
// and for one process at a time.
func TestKill(t *testing.T) {
	if dir := os.Getenv("BROKER_TEST_DIR"); dir != "" { // this is the process that is killed
		fmt.Println(start(t, Config{DataDir: dir, Topic: "chat"}).Addr())
		select {}
	}
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "here")
	var acked []string
	for run := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "BROKER_TEST_DIR="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		check(t, errors.Join(err, cmd.Start()))
		t.Cleanup(func() { cmd.Process.Kill() })
		addr, _ := bufio.NewReader(out).ReadString('\n')
		_, err = Start(Config{Addr: "127.0.0.1:0", DataDir: dir})
		if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 || !strings.Contains(fmt.Sprint(err), dir+`": another process`) {
			t.Errorf("a second process in a folder of mode %v: %v", info.Mode(), err)
		}
		w := dial(t, strings.TrimSpace(addr))
		there := w.values("chat")
		if len(there) < len(acked) || !slices.Equal(there[:len(acked)], acked) {
			t.Fatalf("%d records were acknowledged, %d are there, or others", len(acked), len(there))
		}
		acked = there                          // the last one may have come in and its answer not out
		for i := 0; run < 3 && i < 1000; i++ { // three times this is less than a topic keeps
			if i == 200 { // then it dies at some moment of the next ones
				go cmd.Process.Kill()
			}
			value := fmt.Sprint(len(acked), strings.Repeat("x", 10_000))
			resp, err := w.try(produceRequest("chat", batch(1, records(value))), 7)
			if err != nil {
				break
			}
			check(t, kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode))
			acked = append(acked, value)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// Whatever happened to its files, a broker says what is wrong and does not start, or serves all records
// before the damage, says where that is, keeps the rest in a file, and takes new records.
func TestDamagedDataDir(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	b := start(t, Config{Topic: "chat", DataDir: base})
	w := dial(t, b.Addr())
	const n = 30 // in three segments
	for i := range n {
		w.write("chat", fmt.Sprint(i, strings.Repeat("x", 100_000)))
	}
	all := w.values("chat")
	b.Close()
	const first, second, third = "partitions/chat-0/0.dat", "partitions/chat-0/11.dat", "partitions/chat-0/22.dat"
	type change = func([]byte) []byte
	flip := func(at int) change { return func(b []byte) []byte { b[at] ^= 1; return b } }
	remove := func([]byte) []byte { return nil }
	replace := func(old, new string) change {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
	}
	for name, c := range map[string]struct {
		file   string
		change change
		kept   int    // records before the damage; -1: the start is refused
		says   string // in the log, or in the error
	}{
		"a bit in the last segment":     {third, flip(3 * 100_080), 25, "offset=25"},
		"the first bit":                 {first, flip(0), 0, "offset=0"},
		"a leader epoch":                {second, flip(15), 11, "offset=11"},
		"the end of the second segment": {second, func(b []byte) []byte { return b[:len(b)-1000] }, 21, "cut short"},
		"zeros":                         {second, func(b []byte) []byte { return make([]byte, len(b)) }, 11, "11.dat"},
		"an empty segment":              {second, func(b []byte) []byte { return b[:0] }, 11, "from offset 11 to 22 are missing"},
		"bytes at the end":              {third, func(b []byte) []byte { return append(b, "garbage"...) }, n, "offset=30"},
		"another snapshot":              {"partitions/chat-0/snapshot.json", replace(`"high_watermark":30`, `"high_watermark":10`), n, ""},
		"broken state":                  {"seq_windows.json", replace("{", ""), n, ""},
		"broken settings":               {"broker_configs.json", replace("{", ""), -1, "broker_configs.json"},
		"no meta.json":                  {"meta.json", remove, -1, "chat-0"},
		"no partitions":                 {"topics.json", replace(`"partitions":1`, `"partitions":0`), -1, "chat-0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "[data]")
			check(t, os.CopyFS(dir, os.DirFS(base)))
			file := filepath.Join(dir, c.file)
			whole, _ := os.ReadFile(file)
			changed := c.change(bytes.Clone(whole))
			err := os.WriteFile(file, changed, 0o600)
			if changed == nil {
				err = os.Remove(file)
			}
			if err != nil || bytes.Equal(changed, whole) {
				t.Fatalf("%s was not changed: %v", file, err)
			}
			before := sizes(dir)
			var log bytes.Buffer
			cfg := Config{Addr: "127.0.0.1:0", Topic: "chat", DataDir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))}
			for run := range 2 {
				if c.kept < 0 { // the first must not make the second one start
					if _, err := Start(cfg); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), c.says) {
						t.Errorf("the error does not name %s and %q: %v", dir, c.says, err)
					}
					continue
				}
				b := start(t, cfg)
				if after := sizes(dir); after < before {
					t.Errorf("%d bytes of records were there, %d are left or in copies", before, after)
				}
				if run == 0 && (!strings.Contains(log.String(), c.says) || c.says == "" && strings.Contains(log.String(), "level=WARN")) {
					t.Errorf("the log does not say %q: %s", c.says, &log)
				}
				w := dial(t, b.Addr())
				if want := append(all[:c.kept:c.kept], []string{"new"}[:run]...); !slices.Equal(w.values("chat"), want) {
					t.Errorf("in run %d there are %d records, want %d, or others", run, len(w.values("chat")), len(want))
				}
				w.write("chat", "new")
				b.Close()
			}
		})
	}
}

// sizes is how much is in the segments, and set aside.
func sizes(dir string) (n int) {
	files, _ := fs.Glob(os.DirFS(dir), "partitions/*/*.dat*")
	for _, f := range files {
		b, _ := os.ReadFile(filepath.Join(dir, f))
		n += len(b)
	}
	return n
}
