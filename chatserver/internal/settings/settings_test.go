package settings_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kafkachat/chatserver/internal/settings"
)

// environment looks names up in pairs of a name and a value.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func load(t *testing.T, pairs ...string) *settings.Config {
	t.Helper()
	c, err := settings.Load(environment(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := load(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if c.Port != 8000 || c.Topic != "chat" || c.Pod != host || !c.Embedded || c.EmbeddedAddr != "127.0.0.1:9092" || c.DataDir != "" || c.Where != "laptop" {
		t.Errorf("%+v", c)
	}
	if c.LogBytes != 16<<20 || c.PublishTimeout != 10*time.Second || c.DrainTimeout != 30*time.Second || c.LogLevel != slog.LevelInfo || c.AdminAddr != "" {
		t.Errorf("%+v", c)
	}
	l := c.Limits
	if l.MessageBytes != 8192 || l.MessageRate != 20 || l.ByteRate != 16384 || l.Connections != 20000 || l.PerAddress != 0 ||
		l.Hosts != nil || l.Origins != nil || l.TrustedProxies != nil || l.UserHeader != "" {
		t.Errorf("%+v", l)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, value string
		set         func(*settings.Config) bool
	}{
		{"PORT", "0", func(c *settings.Config) bool { return c.Port == 0 }},
		{"PORT", " 80 ", func(c *settings.Config) bool { return c.Port == 80 }},
		{"TOPIC", "My.topic_1-x", func(c *settings.Config) bool { return c.Topic == "My.topic_1-x" }},
		{"POD_NAME", "Pod <1> ü", func(c *settings.Config) bool { return c.Pod == "Pod <1> ü" }},
		{"podname", "as the lab has it", func(c *settings.Config) bool { return c.Pod == "as the lab has it" }},
		{"KAFKA_BROKER", "kafka:9092", func(c *settings.Config) bool { return !c.Embedded && c.Cluster.Brokers[0] == "kafka:9092" }},
		{"EMBEDDED_ADDR", "127.0.0.1:0", func(c *settings.Config) bool { return c.EmbeddedAddr == "127.0.0.1:0" }},
		{"DATA_DIR", "/data", func(c *settings.Config) bool { return c.DataDir == "/data" }},
		{"LOG_BYTES", "65536", func(c *settings.Config) bool { return c.LogBytes == 65536 }},
		{"PUBLISH_TIMEOUT", "1m30s", func(c *settings.Config) bool { return c.PublishTimeout == 90*time.Second }},
		{"DRAIN_TIMEOUT", "1h", func(c *settings.Config) bool { return c.DrainTimeout == time.Hour }},
		{"ADMIN_ADDR", ":9090", func(c *settings.Config) bool { return c.AdminAddr == ":9090" }},
		{"MESSAGE_BYTES", "1", func(c *settings.Config) bool { return c.Limits.MessageBytes == 1 }},
		{"BYTE_RATE", "1", func(c *settings.Config) bool { return c.Limits.ByteRate == 1 }},
		{"KUBERNETES_SERVICE_HOST", "10.0.0.1", func(c *settings.Config) bool { return c.Where == "cluster" }},
		{"ALLOWED_HOSTS", "Chat.example.com, *", func(c *settings.Config) bool { return slices.Equal(c.Limits.Hosts, []string{"chat.example.com", "*"}) }},
		{"MESSAGE_RATE", "1000000", func(c *settings.Config) bool { return c.Limits.MessageRate == 1e6 }},
		{"MAX_CONNECTIONS", "0", func(c *settings.Config) bool { return c.Limits.Connections == 0 }},
		{"MAX_CONNECTIONS_PER_ADDRESS", "7", func(c *settings.Config) bool { return c.Limits.PerAddress == 7 }},
		{"ALLOWED_ORIGINS", "*", func(c *settings.Config) bool { return c.Limits.AnyOrigin() }},
		{"ALLOWED_ORIGINS", "https://a.b, http://c", func(c *settings.Config) bool { return len(c.Limits.Origins) == 2 && !c.Limits.AnyOrigin() }},
		{"TRUSTED_PROXIES", "10.0.0.0/8", func(c *settings.Config) bool {
			return c.Limits.TrustedProxies[0] == netip.MustParsePrefix("10.0.0.0/8")
		}},
		{"LOG_LEVEL", "DEBUG", func(c *settings.Config) bool { return c.LogLevel == slog.LevelDebug }},
		{"LOG_LEVEL", "error", func(c *settings.Config) bool { return c.LogLevel == slog.LevelError }},
	} {
		if got := load(t, c.name, c.value); !c.set(got) {
			t.Errorf("%s=%q: %+v", c.name, c.value, got)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if c := load(t, "PORT", "8001"); c.Pod != host+":8001" {
		t.Errorf("a second server on this machine is %q", c.Pod)
	}
	if c := load(t, "POD_NAME", "first", "podname", "second", "PORT", "8001"); c.Pod != "first" {
		t.Errorf("the pod is %q", c.Pod)
	}
}

// An error names the variable, its value and what would be valid.
func TestBadValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, valid string }{
		{"PORT", "http", "0 to 65535"},
		{"PORT", "-1", "0 to 65535"},
		{"PORT", "65536", "0 to 65535"},
		{"PORT", "8000.0", "whole number"},
		{"TOPIC", "my topic", "letters, digits"},
		{"TOPIC", "..", "letters, digits"},
		{"TOPIC", strings.Repeat("x", 241), "1 to 240"},
		{"POD_NAME", "two\nlines", "printable"},
		{"POD_NAME", "\xff", "printable"},
		{"podname", strings.Repeat("x", 254), "253"},
		{"LOG_BYTES", "16M", "whole number"},
		{"LOG_BYTES", "65535", "65536"},
		{"PUBLISH_TIMEOUT", "10", "such as 10s"},
		{"PUBLISH_TIMEOUT", "1ms", "from 1s"},
		{"PUBLISH_TIMEOUT", "-10s", "from 1s"},
		{"DRAIN_TIMEOUT", "2h", "1h0m0s"},
		{"ADMIN_ADDR", "9090", "host:port"},
		{"MESSAGE_BYTES", "0", "from 1"},
		{"MESSAGE_BYTES", "1000001", "to 1000000"},
		{"MESSAGE_RATE", "0", "from 1"},
		{"MESSAGE_RATE", "fast", "whole number"},
		{"MAX_CONNECTIONS", "-1", "from 0"},
		{"MAX_CONNECTIONS", "99999999999999999999", "from 0"},
		{"MAX_CONNECTIONS_PER_ADDRESS", "many", "from 0"},
		{"ALLOWED_ORIGINS", "chat.example.com", "https://host"},
		{"TRUSTED_PROXIES", "proxy", "10.0.0.0/8"},
		{"BYTE_RATE", "16K", "whole number"},
		{"ALLOWED_HOSTS", "https://chat.example.com", "without a port"},
		{"ALLOWED_HOSTS", "chat.example.com:80", "without a port"},
		{"USER_HEADER", "X Forwarded User", "hyphens"},
		{"LOG_LEVEL", "loud", "debug, info, warn and error"},
		{"KAFKA_BROKER", "kafka:http", "host:port"},
	} {
		_, err := settings.Load(environment(c.name, c.value))
		if err == nil {
			t.Errorf("%s=%.50q: valid", c.name, c.value)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.name) || !strings.Contains(text, strconv.Quote(c.value)) || !strings.Contains(text, c.valid) {
			t.Errorf("%s=%.50q: the error is %q", c.name, c.value, err)
		}
	}
	for _, c := range [][]string{ // each valid by itself
		{"KAFKA_BROKER", "kafka:9092", "DATA_DIR", "/data"},
		{"MESSAGE_BYTES", "8193", "LOG_BYTES", "65536"},
		{"USER_HEADER", "X-Forwarded-User", "TRUSTED_PROXIES", ""},
	} {
		_, err := settings.Load(environment(c...))
		if err == nil || !strings.Contains(err.Error(), c[0]) || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func TestClientID(t *testing.T) {
	t.Parallel()
	for pod, want := range map[string]string{
		"chat-7d9f":              "chatserver-probe-chat-7d9f",
		"Pod <1>":                "chatserver-probe-Pod--1-",
		"ü":                      "chatserver-probe---",
		strings.Repeat("x", 253): "chatserver-probe-" + strings.Repeat("x", 183),
	} {
		if got := load(t, "POD_NAME", pod).ClientID("probe"); got != want {
			t.Errorf("pod %.20q: %q, want %q", pod, got, want)
		}
	}
}

// FuzzLoad sets one variable to anything: Load never panics, an error names the variable, and what is
// valid is within its bounds.
func FuzzLoad(f *testing.F) {
	variables := settings.Variables()
	for i, v := range variables {
		for _, value := range []string{v.Default, "", "0", "-1", "1e3", "9999999999999999999999", "*", "https://a.b,*", "10.0.0.0/8,::1", "[::1]:0", "debug", "INFO+2", "\xff\x00", "1h2m3s", "ü"} {
			f.Add(uint8(i), value)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		v := variables[int(which)%len(variables)]
		c, err := settings.Load(environment("POD_NAME", "p", v.Name, value))
		if v.Name == "POD_NAME" {
			c, err = settings.Load(environment(v.Name, value))
		}
		if err != nil {
			if !strings.Contains(err.Error(), v.Name) || !utf8.ValidString(err.Error()) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s=%q: the error is %q", v.Name, value, err)
			}
			return
		}
		switch {
		case c.Port < 0 || c.Port > 65535, c.Topic == "", c.Pod == "" || !utf8.ValidString(c.Pod),
			c.LogBytes < 64<<10, c.Limits.MessageBytes < 1, c.Limits.MessageRate < 1, c.Limits.ByteRate < 1, c.Limits.Connections < 0, c.Limits.PerAddress < 0,
			c.PublishTimeout < time.Second || c.PublishTimeout > time.Hour, c.DrainTimeout < time.Second || c.DrainTimeout > time.Hour:
			t.Errorf("%s=%q: %+v", v.Name, value, c)
		}
		if id := c.ClientID("x"); len(id) > 200 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			t.Errorf("%s=%q: client id %q", v.Name, value, id)
		}
	})
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	if answered, err := settings.Answer([]string{"-h"}, &help); !answered || err != nil {
		t.Errorf("-h: %v, %v", answered, err)
	}
	names := []string{"KAFKA_BROKER"}
	for _, v := range settings.Variables() {
		names = append(names, v.Name)
	}
	for _, name := range names {
		if !strings.Contains(help.String(), "\n  "+name+" ") {
			t.Errorf("-h does not list %s:\n%s", name, &help)
		}
	}
	var version bytes.Buffer
	if answered, err := settings.Answer([]string{"-version"}, &version); !answered || err != nil || !strings.HasPrefix(version.String(), "chatserver ") {
		t.Errorf("-version: %v, %v, %q", answered, err, &version)
	}
	if answered, err := settings.Answer(nil, nil); answered || err != nil {
		t.Errorf("no arguments: %v, %v", answered, err)
	}
	for _, args := range [][]string{{"8001"}, {"-port", "8001"}} {
		if answered, err := settings.Answer(args, nil); answered || err == nil || !strings.Contains(err.Error(), "-h") {
			t.Errorf("%q: %v, %v", args, answered, err)
		}
	}
}

// The README's table has the row of each variable, as the settings have it.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range settings.Variables() {
		value := "`" + v.Default + "`"
		if sentence, ok := strings.CutPrefix(v.Default, "("); ok {
			value = strings.TrimSuffix(sentence, ")")
		}
		row := fmt.Sprintf("| `%s` | %s | %s |\n", v.Name, value, v.Meaning)
		if v.Name != "TOPIC" && !strings.Contains(string(readme), row) { // the tools have that one, too
			t.Errorf("README.md has no row\n%s", row)
		}
	}
}
