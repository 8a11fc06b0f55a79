//go:build long && linux

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
)

func TestFullAbuse(t *testing.T) { abuse(t, 10_000, 100_000, 4700, 5*time.Second) }

// People sign in at Debian's nginx, which has the configuration of k8s/README.md and serves the chat below /chat/. What the pod says
// without nginx, or with one that lacks a line, internal/room tests.
func TestNginx(t *testing.T) {
	t.Parallel()
	pod := startPod(t, map[string]string{"USER_HEADER": "X-Forwarded-User", "TRUSTED_PROXIES": "127.0.0.1", "ALLOWED_HOSTS": "chat.example"})
	_, block, _ := strings.Cut(readFile(t, "../k8s/README.md"), "```nginx\n")
	block, _, _ = strings.Cut(block, "```")
	folder := t.TempDir()
	socket := folder + "/socket" // nobody else can take that; and TLS is nginx's own
	backend := strings.Replace(pod.host(), "localhost", "127.0.0.1", 1)
	here := strings.NewReplacer("listen 443 ssl", "listen unix:"+socket, "ssl_", "# ssl_", "/etc/nginx", folder, "127.0.0.1:8000", backend)
	config := "daemon off; master_process off; pid " + folder + "/pid; error_log stderr;\nevents {}\nhttp {\naccess_log off;\n" +
		"client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n" +
		here.Replace(block) + "}\n"
	err := os.WriteFile(folder+"/nginx.conf", []byte(config), 0o644)
	if err := errors.Join(err, os.WriteFile(folder+"/chat.htpasswd", []byte("ann:{PLAIN}secret\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command("nginx", "-p", folder, "-c", folder+"/nginx.conf")
	nginx.Stderr = t.Output()
	if err := nginx.Start(); err != nil {
		t.Fatalf("starting nginx (apt-get install nginx-light): %v", err)
	}
	t.Cleanup(func() {
		nginx.Process.Kill()
		nginx.Wait()
	})
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }
	request := httptest.NewRequest("GET", "http://chat.example/chat/", nil)
	request.RequestURI = ""
	request.Header.Set("X-Forwarded-User", "mallory") // is not believed
	request.Header.Set("Origin", "https://chat.example")
	get := func() (status int, body string) {
		response, err := (&http.Transport{DialContext: dial}).RoundTrip(request)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		b, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(b)
	}
	waitFor(t, "nginx to ask for a password", func() bool {
		status, _ := get()
		return status == http.StatusUnauthorized
	})
	request.SetBasicAuth("ann", "secret")
	status, body := get()
	if status != http.StatusOK || !strings.Contains(body, "Chatting on") || regexp.MustCompile(`(src|href)="/`).MatchString(body) {
		t.Errorf("with a password: %d, or the page asks for what is not below /chat/: %.200s", status, body)
	}
	dialer := websocket.Dialer{Subprotocols: []string{chat.Protocol}, HandshakeTimeout: patience, NetDialContext: dial}
	ws, _, err := dialer.Dial("ws://chat.example/chat/ws", request.Header)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ann := &testClient{t, ws}
	if w, _ := ann.arrive(); w.Name != "ann" {
		t.Errorf("%+v", w)
	}
	if m, _ := ann.publish(longID("first"), "hello"); m.Name != "ann" || m.Text != "hello" {
		t.Errorf("%+v", m)
	}
}
