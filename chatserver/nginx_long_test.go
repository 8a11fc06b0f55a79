//go:build long && linux

package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
)

const fullAbuse = true // TestAbuse, in its full size

// People sign in at Debian's nginx, which has the configuration of k8s/README.md and serves the chat below /chat/. What the pod says
// without nginx, or with one that lacks a line, internal/room tests.
func TestNginx(t *testing.T) {
	t.Parallel()
	pod := startPod(t, map[string]string{"USER_HEADER": "X-Forwarded-User", "TRUSTED_PROXIES": "127.0.0.1", "ALLOWED_HOSTS": "chat.example.com"})
	readme, err := os.ReadFile("../k8s/README.md")
	block := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatalf("k8s/README.md has no configuration of nginx: %v", err)
	}
	folder := t.TempDir()
	socket := folder + "/socket" // nobody else can take that; and TLS is nginx's own
	backend := strings.Replace(pod.host(), "localhost", "127.0.0.1", 1)
	here := strings.NewReplacer("listen 443 ssl", "listen unix:"+socket, "ssl_", "# ssl_", "/etc/nginx", folder, "127.0.0.1:8000", backend)
	for name, text := range map[string]string{
		"chat.htpasswd": "ann:{PLAIN}secret\n",
		"nginx.conf": "daemon off; master_process off; pid " + folder + "/pid; error_log stderr;\nevents {}\nhttp {\naccess_log off;\n" +
			"client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n" +
			here.Replace(string(block[1])) + "}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
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
	waitFor(t, "nginx to listen", func() bool {
		c, err := dial(t.Context(), "", "")
		if err == nil {
			c.Close()
		}
		return err == nil
	})

	request := httptest.NewRequest("GET", "http://chat.example.com/chat/", nil)
	request.RequestURI = ""
	request.Header.Set("X-Forwarded-User", "mallory") // is not believed
	request.Header.Set("Origin", "https://chat.example.com")
	get := func() (status int, body string) {
		response, err := (&http.Transport{DialContext: dial}).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		b, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(b)
	}
	if status, _ := get(); status != http.StatusUnauthorized {
		t.Errorf("without a password: %d", status)
	}
	request.SetBasicAuth("ann", "secret")
	status, body := get()
	if outside := regexp.MustCompile(`(src|href)="/`); status != http.StatusOK || !strings.Contains(body, "Chatting on") || outside.MatchString(body) {
		t.Errorf("with a password: %d, or the page asks for what is not below /chat/: %.200s", status, body)
	}
	dialer := websocket.Dialer{Subprotocols: []string{chat.Protocol}, HandshakeTimeout: patience, NetDialContext: dial}
	ws, _, err := dialer.Dial("ws://chat.example.com/chat/ws", request.Header)
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
