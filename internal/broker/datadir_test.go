package broker

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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

func TestDataDirKeepsRecords(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "[here]")
	var want []string
	for i := range 3 {
		b := start(t, Config{Topic: "chat", DataDir: dir})
		want = append(want, fmt.Sprint("run ", i))
		w := dial(t, b.Addr())
		if err := w.produce("chat", batch(1, records(want[i]))); err != nil {
			t.Fatal(err)
		}
		if got := w.values("chat"); !slices.Equal(got, want) {
			t.Errorf("run %d has %q", i, got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

func TestDataDirIsForOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, Config{DataDir: dir})
	_, err := Start(Config{Addr: "127.0.0.1:0", DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second broker in the same directory: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, Config{DataDir: dir})
}

// A broker that is killed while it writes has all that it acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := 0
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "BROKER_TEST_DIR="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		w := dial(t, strings.TrimSpace(addr))
		if n := w.newest("chat"); n < int64(acked) {
			t.Fatalf("%d records were acknowledged, %d are there", acked, n)
		}
		acked = int(w.newest("chat")) // the last one may have come in and its answer not out
		for i := 0; ; i++ {
			if i == 200 { // then it dies at some moment of the next ones
				go cmd.Process.Kill()
			}
			resp, err := w.try(produceRequest("chat", batch(1, records(strconv.Itoa(acked)+strings.Repeat("x", 10_000)))), 7)
			if err != nil {
				break
			}
			if p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != int64(acked) {
				t.Fatalf("record %d: error code %d, offset %d", acked, p.ErrorCode, p.BaseOffset)
			}
			acked++
		}
		cmd.Wait()
	}
	w := dial(t, start(t, Config{DataDir: dir}).Addr())
	values := w.values("chat")
	if len(values) < acked {
		t.Fatalf("%d records were acknowledged, %d are there", acked, len(values))
	}
	for i, v := range values {
		if n, _, _ := strings.Cut(v, "x"); n != strconv.Itoa(i) {
			t.Fatalf("record %d is %.20s", i, v)
		}
	}
}

// values returns all records of partition 0, each the first of its batch, and fails at a hole.
func (w *raw) values(topic string) (values []string) {
	w.Helper()
	end := w.newest(topic)
	for next := w.oldest(topic); next < end; {
		p := w.fetch(topic, next).Topics[0].Partitions[0]
		if p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
			w.Fatalf("record %d of %d in %s cannot be read (code %d)", next, end, topic, p.ErrorCode)
		}
		for b := p.RecordBatches; len(b) > 0; {
			var batch kmsg.RecordBatch
			if err := batch.ReadFrom(b); err != nil || batch.FirstOffset != next {
				w.Fatalf("at offset %d there is %d: %v", next, batch.FirstOffset, err)
			}
			var r kmsg.Record
			if err := r.ReadFrom(batch.Records); err != nil {
				w.Fatal(err)
			}
			values = append(values, string(r.Value))
			next += int64(batch.LastOffsetDelta) + 1
			b = b[12+batch.Length:]
		}
	}
	return values
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
		if err := w.produce("chat", batch(1, records(strconv.Itoa(i)+strings.Repeat("x", 100_000)))); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	folder := filepath.Join("partitions", "chat-0")
	segments, _ := filepath.Glob(filepath.Join(base, folder, "*.dat"))
	if len(segments) != 3 {
		t.Fatalf("there are %q", segments)
	}
	first, second, third := filepath.Join(folder, "0.dat"), filepath.Join(folder, "11.dat"), filepath.Join(folder, "22.dat")
	change := func(file string, f func([]byte) []byte) func(string) error {
		return func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, file), f(b), 0o644)
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Errorf("%q is not in %s", old, b)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	remove := func(file string) func(string) error {
		return func(dir string) error { return os.RemoveAll(filepath.Join(dir, file)) }
	}
	const size = 100_000 + 80 // about a batch
	for name, c := range map[string]struct {
		damage func(dir string) error
		kept   int    // records before the damage; -1: the start is refused
		says   string // in the log, or in the error
	}{
		"nothing":                       {func(string) error { return nil }, n, ""},
		"a bit of the last record":      {change(third, func(b []byte) []byte { return flip(len(b) - 1)(b) }), n - 1, "offset=29"},
		"a bit in the last segment":     {change(third, flip(3*size)), 25, "offset=25"},
		"a bit in the first segment":    {change(first, flip(5*size)), 5, "offset=5"},
		"the first bit":                 {change(first, flip(0)), 0, "offset=0"},
		"a length":                      {change(second, flip(9)), 11, "offset=11"},
		"a leader epoch":                {change(second, flip(15)), 11, "offset=11"},
		"the end of the last segment":   {change(third, func(b []byte) []byte { return b[:len(b)-1000] }), n - 1, "cut short"},
		"the end of the second segment": {change(second, func(b []byte) []byte { return b[:len(b)-1000] }), 21, "offset=21"},
		"zeros":                         {change(second, func(b []byte) []byte { return make([]byte, len(b)) }), 11, "11.dat"},
		"an empty segment":              {change(second, func([]byte) []byte { return nil }), 11, "from offset 11 to 22 are missing"},
		"bytes at the end":              {change(third, func(b []byte) []byte { return append(b, "garbage"...) }), n, "offset=30"},
		"no second segment":             {remove(second), 11, "from offset 11 to 22 are missing"},
		"no third segment":              {remove(third), 22, ""},
		"no index":                      {remove(filepath.Join(folder, "22.idx")), n, ""},
		"no snapshot":                   {remove(filepath.Join(folder, "snapshot.json")), n, ""},
		"another snapshot":              {change(filepath.Join(folder, "snapshot.json"), replace(`"high_watermark":30`, `"high_watermark":10`)), n, ""},
		"no partition":                  {remove(folder), 0, ""},
		"broken state":                  {change("seq_windows.json", func([]byte) []byte { return []byte("{") }), n, ""},
		"broken settings":               {change("broker_configs.json", func([]byte) []byte { return []byte("{") }), -1, "broker_configs.json"},
		"no meta.json":                  {remove("meta.json"), -1, "chat-0"},
		"no topics.json":                {remove("topics.json"), -1, "chat-0"},
		"broken topics.json":            {change("topics.json", func(b []byte) []byte { return b[1:] }), -1, "topics.json"},
		"broken meta.json":              {change("meta.json", func(b []byte) []byte { return b[1:] }), -1, "meta.json"},
		"a letter of the topic's name":  {change("topics.json", replace("chat", "cxat")), -1, "chat-0"},
		"no partitions":                 {change("topics.json", replace(`"partitions":1`, `"partitions":0`)), -1, "chat-0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			files := sizes(dir)
			var log bytes.Buffer
			b, err := Start(Config{Addr: "127.0.0.1:0", Topic: "chat", DataDir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if c.kept < 0 {
				if err == nil {
					b.Close()
					t.Fatal("it starts")
				}
				if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("the error does not name %s and %q: %v", dir, c.says, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), c.says) || c.says == "" && strings.Contains(log.String(), "level=WARN") {
				t.Errorf("the log does not say %q: %s", c.says, &log)
			}
			if after := sizes(dir); after < files {
				t.Errorf("%d bytes of records were there, %d are left or in copies", files, after)
			}
			for run := range 3 {
				w := dial(t, b.Addr())
				values := w.values("chat")
				if len(values) != c.kept+run {
					t.Fatalf("in run %d there are %d records, want %d", run, len(values), c.kept+run)
				}
				for i, v := range values[:c.kept] {
					if number, _, _ := strings.Cut(v, "x"); number != strconv.Itoa(i) {
						t.Fatalf("record %d is %.20s", i, v)
					}
				}
				if err := w.produce("chat", batch(1, records("new"))); err != nil {
					t.Fatal(err)
				}
				b.Close()
				b = start(t, Config{DataDir: dir})
			}
		})
	}
}

// sizes is how much is in the segments, and set aside.
func sizes(dir string) (n int64) {
	files, _ := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.dat*"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			n += info.Size()
		}
	}
	return n
}

func TestNoDataDir(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if b, err := Start(Config{Addr: "127.0.0.1:0", DataDir: dir, Topic: "chat"}); err == nil {
			b.Close()
			t.Errorf("a broker started in %s", dir)
		} else if !strings.Contains(err.Error(), dir) {
			t.Errorf("the error does not name %s: %v", dir, err)
		}
	}
}
