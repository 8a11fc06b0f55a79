package ops_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
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

// Two servers on one machine, as on a laptop, do not get in each other's way, and whose metrics are whose is not for the
// network. An address that is taken is said.
func TestListen(t *testing.T) {
	t.Parallel()
	var taken [2]string
	for range 2 {
		chat, admin, err := ops.Listen(0, "")
		if err != nil {
			t.Fatal(err)
		}
		defer chat.Close()
		defer admin.Close()
		if addr := admin.Addr().(*net.TCPAddr); !addr.IP.IsLoopback() {
			t.Errorf("listens on %s, which is not only for this machine", addr)
		}
		taken = [2]string{strconv.Itoa(chat.Addr().(*net.TCPAddr).Port), admin.Addr().String()}
	}
	port, _ := strconv.Atoi(taken[0])
	if _, _, err := ops.Listen(port, ""); err == nil || !strings.Contains(err.Error(), "port "+taken[0]) || !strings.Contains(err.Error(), "PORT=") {
		t.Errorf("a taken port: %v", err)
	}
	if _, _, err := ops.Listen(0, taken[1]); err == nil || !strings.Contains(err.Error(), "ADMIN_ADDR") || !strings.Contains(err.Error(), taken[1]) {
		t.Errorf("a taken address: %v", err)
	}
}
