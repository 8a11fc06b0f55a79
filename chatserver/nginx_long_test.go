//go:build long && linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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

// nginxAt starts Debian's nginx with the configuration of k8s/README.md before the server at backend, and returns what connects
// to it. (It listens on a Unix socket: nobody else can take that.)
func nginxAt(t *testing.T, backend string) (dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	t.Helper()
	readme, err := os.ReadFile("../k8s/README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("k8s/README.md has no configuration of nginx")
	}
	folder := t.TempDir()
	here := strings.NewReplacer("listen 443 ssl", "listen unix:"+folder+"/socket ssl", "/etc/nginx", folder, "127.0.0.1:8000", backend)
	example := httptest.NewTLSServer(nil) // for its certificate
	example.Close()
	key, err := x509.MarshalPKCS8PrivateKey(example.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"chat.htpasswd": "ann:{PLAIN}secret\n",
		"chat.pem":      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: example.Certificate().Raw})),
		"chat.key":      string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"nginx.conf": "daemon off; master_process off; pid " + folder + "/pid; error_log stderr;\nevents {}\nhttp {\naccess_log off;\n" +
			"client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n" + here.Replace(string(block[1])) + "}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("nginx", "-p", folder, "-c", filepath.Join(folder, "nginx.conf"))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting nginx (apt-get install nginx-light): %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	dial = func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", folder+"/socket") }
	waitFor(t, "nginx to listen", func() bool {
		c, err := dial(t.Context(), "", "")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return dial
}

// People sign in at nginx, which ends TLS and serves the chat below /chat/. What the pod says without nginx, or with one that
// lacks a line, internal/room tests.
func TestNginx(t *testing.T) {
	t.Parallel()
	pod := startPod(t, map[string]string{"USER_HEADER": "X-Forwarded-User", "TRUSTED_PROXIES": "127.0.0.1", "ALLOWED_HOSTS": "chat.example.com"})
	dial := nginxAt(t, "127.0.0.1:"+portOf(pod.url))
	insecure := &tls.Config{InsecureSkipVerify: true}
	asking := func(password string) *http.Request {
		request := httptest.NewRequest("GET", "https://chat.example.com/chat/", nil)
		request.RequestURI = ""
		request.Header.Set("X-Forwarded-User", "mallory") // is not believed
		request.Header.Set("Origin", "https://chat.example.com")
		if password != "" {
			request.SetBasicAuth("ann", password)
		}
		return request
	}
	get := func(password string) (status int, body string) {
		t.Helper()
		response, err := (&http.Transport{TLSClientConfig: insecure, DialContext: dial}).RoundTrip(asking(password))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		b, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(b)
	}
	if status, _ := get(""); status != http.StatusUnauthorized {
		t.Errorf("without a password: %d", status)
	}
	status, body := get("secret")
	if status != http.StatusOK || !strings.Contains(body, "Chatting on") {
		t.Errorf("with a password: %d %.200s", status, body)
	}
	for _, reference := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		if strings.HasPrefix(reference[1], "/") {
			t.Errorf("the page asks for %s, which is not below /chat/", reference[1])
		}
	}
	dialer := websocket.Dialer{TLSClientConfig: insecure, Subprotocols: []string{chat.Protocol}, HandshakeTimeout: patience, NetDialContext: dial}
	ws, _, err := dialer.Dial("wss://chat.example.com/chat/ws", asking("secret").Header)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ann := &testClient{t, ws}
	if w := ann.event(); w.Type != "welcome" || w.Name != "ann" {
		t.Errorf("%+v", w)
	}
	if m, _ := ann.publish(longID("first"), "hello"); m.Name != "ann" || m.Text != "hello" {
		t.Errorf("%+v", m)
	}
}
