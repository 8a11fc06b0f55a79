package ops

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
)

// What collects logs gets lines of JSON, and the greeting at once. For a person the address comes last and alone.
func TestGreetings(t *testing.T) {
	var b bytes.Buffer
	Logger(&b, slog.LevelWarn, "a pod").Info("not this")
	Greet(t.Context(), &b, "a pod", 8001, false, func() error { return errAway })
	type line struct{ Level, Pod, Open, Network, Edition string }
	var got line
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got != (line{"INFO", "a pod", "http://localhost:8001", "", Edition()}) {
		t.Errorf("%q: %v", b.String(), err)
	}
	for _, ready := range []bool{true, false} {
		b.Reset()
		greet(&b, "a pod", "http://localhost:8001", "http://192.0.2.2:8001", ready)
		text := b.String()
		if strings.Contains(text, "waits for Kafka") == ready || !strings.Contains(text, "Chatting on a pod") ||
			!strings.HasSuffix(text, "\nOthers on this network open http://192.0.2.2:8001\nOpen\n\n    http://localhost:8001\n\n") {
			t.Errorf("ready %v: %s", ready, text)
		}
	}
}

// Two servers can run on one machine, as on a laptop, and the network does not see their metrics. An address that is taken is said.
func TestListen(t *testing.T) {
	var port int
	var addr *net.TCPAddr
	for range 2 {
		chat, admin, err := Listen(0, "")
		if err != nil {
			t.Fatal(err)
		}
		defer chat.Close()
		defer admin.Close()
		port, addr = chat.Addr().(*net.TCPAddr).Port, admin.Addr().(*net.TCPAddr)
		if !addr.IP.IsLoopback() {
			t.Errorf("listens on %s, which is not only for this machine", addr)
		}
	}
	if _, _, err := Listen(port, ""); !regexp.MustCompile(fmt.Sprintf("port %d cannot .* PORT=", port)).MatchString(fmt.Sprint(err)) {
		t.Errorf("a taken port: %v", err)
	}
	if _, _, err := Listen(0, addr.String()); !strings.Contains(fmt.Sprint(err), fmt.Sprintf("ADMIN_ADDR=%q", addr)) {
		t.Errorf("a taken address: %v", err)
	}
}
