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
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestMain runs a broker in a process of its own, for a test that kills it.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BROKER_TEST_DIR"); dir != "" {
		b, err := Start(Config{Addr: "127.0.0.1:0", DataDir: dir, Topic: "chat"})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(b.Addr())
		select {}
	}
	os.Exit(m.Run())
}

// A folder is for its owner, and for one process at a time.
func TestDataDir(t *testing.T) {
	t.Parallel()
	dir, file := filepath.Join(t.TempDir(), "made", "here"), filepath.Join(t.TempDir(), "file")
	start(t, Config{DataDir: dir})
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, says := range map[string]string{dir: "another process", file: "", filepath.Join(file, "below"): ""} {
		if _, err := Start(Config{Addr: "127.0.0.1:0", DataDir: dir}); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), says) {
			t.Errorf("a broker in %s, which is in use or no folder: %v", dir, err)
		}
	}
}

// numbered is record i in these tests.
func numbered(i, size int) []byte { return batch(1, records(fmt.Sprint(i, strings.Repeat("x", size)))) }

// checkNumbered fails unless the values are those of the first records.
func checkNumbered(t *testing.T, values []string) {
	t.Helper()
	for i, v := range values {
		if !strings.HasPrefix(v, fmt.Sprint(i, "x")) {
			t.Fatalf("record %d is %.20s", i, v)
		}
	}
}

// A broker that is killed while it writes has all that it acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	dir, acked := t.TempDir(), 0
	for run := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "BROKER_TEST_DIR="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err := errors.Join(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		w := dial(t, strings.TrimSpace(addr))
		values := w.values("chat")
		if checkNumbered(t, values); len(values) < acked {
			t.Fatalf("%d records were acknowledged, %d are there", acked, len(values))
		}
		acked = len(values) // the last one may have come in and its answer not out
		for i := 0; run < 3; i++ {
			if i == 200 { // then it dies at some moment of the next ones
				go cmd.Process.Kill()
			}
			resp, err := w.try(produceRequest("chat", numbered(acked, 10_000)), 7)
			if err != nil {
				break
			}
			if p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != int64(acked) {
				t.Fatalf("record %d: error code %d, offset %d", acked, p.ErrorCode, p.BaseOffset)
			}
			acked++
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// Whatever happened to its files, a broker either says what is wrong and does not start, or serves
// all records before the first that cannot be read, says where that is, keeps the rest in a file,
// and takes new records that stay readable, now and after a restart.
func TestDamagedDataDir(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	b := start(t, Config{Topic: "chat", DataDir: base})
	w := dial(t, b.Addr())
	const n = 30 // in three segments
	for i := range n {
		if err := w.produce("chat", numbered(i, 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	const size = 100_000 + 80 // about a batch
	const first, second, third, folder = "partitions/chat-0/0.dat", "partitions/chat-0/11.dat", "partitions/chat-0/22.dat", "partitions/chat-0"
	type change = func([]byte) []byte
	remove := change(nil)
	flip := func(at int) change { return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b } }
	cut := func(b []byte) []byte { return b[:len(b)-1000] }
	replace := func(old, new string) change {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Errorf("%q is not in %s", old, b)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	for name, c := range map[string]struct {
		file   string
		change change
		kept   int    // records before the damage; -1: the start is refused
		says   string // in the log, or in the error
	}{
		"nothing":                       {first, bytes.Clone, n, ""},
		"a bit of the last record":      {third, flip(-1), n - 1, "offset=29"},
		"a bit in the last segment":     {third, flip(3 * size), 25, "offset=25"},
		"the first bit":                 {first, flip(0), 0, "offset=0"},
		"a length":                      {second, flip(9), 11, "offset=11"},
		"a leader epoch":                {second, flip(15), 11, "offset=11"},
		"the end of the last segment":   {third, cut, n - 1, "cut short"},
		"the end of the second segment": {second, cut, 21, "offset=21"},
		"zeros":                         {second, func(b []byte) []byte { return make([]byte, len(b)) }, 11, "11.dat"},
		"an empty segment":              {second, func([]byte) []byte { return nil }, 11, "from offset 11 to 22 are missing"},
		"bytes at the end":              {third, func(b []byte) []byte { return append(b, "garbage"...) }, n, "offset=30"},
		"no second segment":             {second, remove, 11, "from offset 11 to 22 are missing"},
		"no third segment":              {third, remove, 22, ""},
		"no index":                      {folder + "/22.idx", remove, n, ""},
		"another snapshot":              {folder + "/snapshot.json", replace(`"high_watermark":30`, `"high_watermark":10`), n, ""},
		"no partition":                  {folder, remove, 0, ""},
		"broken state":                  {"seq_windows.json", replace("{", ""), n, ""},
		"broken settings":               {"broker_configs.json", replace("{", ""), -1, "broker_configs.json"},
		"no meta.json":                  {"meta.json", remove, -1, "chat-0"},
		"no topics.json":                {"topics.json", remove, -1, "chat-0"},
		"broken topics.json":            {"topics.json", replace("{", ""), -1, "topics.json"},
		"no partitions":                 {"topics.json", replace(`"partitions":1`, `"partitions":0`), -1, "chat-0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "[data]")
			if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, c.file)
			if c.change == nil {
				os.RemoveAll(file)
			} else if b, err := os.ReadFile(file); err != nil {
				t.Fatal(err)
			} else if err := os.WriteFile(file, c.change(b), 0o644); err != nil {
				t.Fatal(err)
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
				values := w.values("chat")
				if len(values) != c.kept+run {
					t.Fatalf("in run %d there are %d records, want %d", run, len(values), c.kept+run)
				}
				checkNumbered(t, values[:c.kept])
				if err := w.produce("chat", batch(1, records("new"))); err != nil {
					t.Fatal(err)
				}
				b.Close()
			}
		})
	}
}

// sizes is how much is in the segments, and set aside.
func sizes(dir string) (n int64) {
	files, _ := fs.Glob(os.DirFS(dir), "partitions/*/*.dat*")
	for _, f := range files {
		if info, err := os.Stat(filepath.Join(dir, f)); err == nil {
			n += info.Size()
		}
	}
	return n
}
