package broker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kafkachat/internal/broker"
)

func TestDataDirKeepsRecords(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "here")
	var want []string
	for i := range 3 {
		b := start(t, broker.Config{Topic: "chat", DataDir: dir})
		want = append(want, fmt.Sprint("run ", i))
		produce(t, b.Addr(), newConfig(), "chat", want[i])
		if got := consume(t, b.Addr(), "chat", len(want)); !slices.Equal(got, want) {
			t.Errorf("run %d has %q", i, got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDataDirIsForOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, broker.Config{DataDir: dir})
	_, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second broker in the same directory: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, broker.Config{DataDir: dir})
}

func TestBrokenDataDir(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	broken := filepath.Join(t.TempDir(), "broken")
	b := start(t, broker.Config{Topic: "chat", DataDir: broken})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(broken, "topics.json")} {
		if err := os.WriteFile(path, []byte("no JSON"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), broken} {
		b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir, Topic: "chat"})
		if err == nil {
			b.Close()
			t.Errorf("a broker started in %s", dir)
		} else if !strings.Contains(err.Error(), dir) {
			t.Errorf("the error does not name %s: %v", dir, err)
		}
	}
}
