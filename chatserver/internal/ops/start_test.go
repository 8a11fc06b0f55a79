package ops_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"testing"

	"kafkachat/chatserver/internal/ops"
)

func TestLoggerIsJSONForMachines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := ops.Logger(&b, slog.LevelWarn, "a pod")
	log.Info("not this")
	log.Warn("this", "offset", 7)
	var line struct {
		Level, Msg, Pod string
		Offset          int
	}
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Level != "WARN" || line.Msg != "this" || line.Pod != "a pod" || line.Offset != 7 {
		t.Errorf("%q: %v", b.String(), err)
	}
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ops.Logger(file, slog.LevelInfo, "a pod").Warn("this")
	if b, err := os.ReadFile(file.Name()); err != nil || !json.Valid(b) {
		t.Errorf("a file gets %q: %v", b, err)
	}
}

// What collects logs gets the greeting at once, and as JSON.
func TestGreetingForMachines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	ops.Greet(t.Context(), &b, "a pod", 8001, false, func() error { return errors.New("never") })
	var line struct{ Pod, Open, Network, Edition string }
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Pod != "a pod" || line.Open != "http://localhost:8001" || line.Network != "" || line.Edition == "" {
		t.Errorf("%q: %v", b.String(), err)
	}
}
