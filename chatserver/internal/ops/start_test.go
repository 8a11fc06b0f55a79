package ops_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"

	"kafkachat/chatserver/internal/ops"
)

// What collects logs gets lines of JSON, and the greeting at once.
func TestLogsForMachines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	ops.Logger(&b, slog.LevelWarn, "a pod").Info("not this")
	ops.Greet(t.Context(), &b, "a pod", 8001, false, func() error { return errors.New("never") })
	var line struct{ Level, Pod, Open, Network, Edition string }
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Level != "INFO" || line.Pod != "a pod" || line.Open != "http://localhost:8001" ||
		line.Network != "" || line.Edition == "" {
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
