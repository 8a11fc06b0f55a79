package settings_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

// load reads an environment of pairs of a name and a value.
func load(pairs ...string) (*settings.Config, error) {
	return settings.Load(nil, func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}, nil)
}

func TestValues(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		port int // that the server gets
		env  []string
		want string
	}{
		{8000, nil, host + " 8000 chat [localhost:9092] true   16777216 10s 30s  laptop INFO {20000 0 [] [] []  8192 20 16384}"},
		{8001, []string{"podname", "as the lab has it", "TOPIC", "My.topic_1-x", "EMBEDDED_ADDR", "[::1]:0", "DATA_DIR", "/data", "LOG_BYTES", "65536",
			"PUBLISH_TIMEOUT", "1m30s", "DRAIN_TIMEOUT", "1h", "ADMIN_ADDR", ":9090", "LOG_LEVEL", "debug", "MESSAGE_BYTES", "1", "MESSAGE_RATE", "2", "BYTE_RATE", "3"},
			"as the lab has it 8001 My.topic_1-x [localhost:9092] true [::1]:0 /data 65536 1m30s 1h0m0s :9090 laptop DEBUG {20000 0 [] [] []  1 2 3}"},
		{80, []string{"POD_NAME", "Pod <1> ü", "podname", "second", "PORT", " 80 ", "KAFKA_BROKER", "kafka:9092", "KUBERNETES_SERVICE_HOST", "10.0.0.1",
			"MAX_CONNECTIONS", "0", "MAX_CONNECTIONS_PER_ADDRESS", "7", "ALLOWED_HOSTS", "Chat.example.com, *", "ALLOWED_ORIGINS", " https://a.b/ ,http://C:80,https://x:81,*",
			"TRUSTED_PROXIES", " 10.1.2.3/8, 192.0.2.1,::ffff:192.0.2.2 , fd00::1/8", "USER_HEADER", "X-User"},
			"Pod <1> ü 80 chat [kafka:9092] false   16777216 10s 30s  cluster INFO {0 7 [chat.example.com *] [https://a.b http://c https://x:81 *] " +
				"[10.0.0.0/8 192.0.2.1/32 192.0.2.2/32 fd00::/8] X-User 8192 20 16384}"},
		{40000, []string{"PORT", "0"}, host + ":40000 40000 chat [localhost:9092] true   16777216 10s 30s  laptop INFO {20000 0 [] [] []  8192 20 16384}"}, // as a second server on this machine
	} {
		got, err := load(c.env...)
		if err != nil {
			t.Fatal(err)
		}
		got.SetPort(c.port)
		words := fmt.Sprintln(got.Pod, got.Port, got.Topic, got.Cluster.Brokers, got.Embedded, got.EmbeddedAddr, got.DataDir, got.LogBytes, got.PublishTimeout, got.DrainTimeout,
			got.AdminAddr, got.Where, got.LogLevel, got.Limits)
		if words != c.want+"\n" {
			t.Errorf("%q: %s, want %s", c.env, words, c.want)
		}
	}
}

// An error names the variable, its value and what would be valid, and means wrong usage.
func TestBadValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, valid string
		values      []string
	}{
		{"PORT", "whole number from 0 to 65535", []string{"http", "-1", "65536", "8000.0"}},
		{"TOPIC", "1 to 240 letters, digits", []string{"my topic", "..", strings.Repeat("x", 241)}},
		{"POD_NAME", "1 to 253 bytes of printable", []string{"two\nlines", "\xff", strings.Repeat("x", 254)}},
		{"podname", "1 to 253 bytes of printable", []string{strings.Repeat("x", 254)}},
		{"LOG_BYTES", "whole number from 65536", []string{"16M", "65535"}},
		{"PUBLISH_TIMEOUT", "a time such as 10s or 1m30s, from 1s to 1h", []string{"10", "1ms", "-10s", "2h"}},
		{"DRAIN_TIMEOUT", "from 1s to 1h", []string{"2h"}},
		{"ADMIN_ADDR", "host:port", []string{"9090"}},
		{"EMBEDDED_ADDR", "host:port, such as 127.0.0.1:9093", []string{"9093", "localhost", "127.0.0.1:", "127.0.0.1:http", ":65536", "::1:9093"}},
		{"MESSAGE_BYTES", "from 1 to 1000000", []string{"0", "1000001"}},
		{"MESSAGE_RATE", "whole number from 1", []string{"0", "fast"}},
		{"BYTE_RATE", "whole number", []string{"16K", "0"}},
		{"MAX_CONNECTIONS", "from 0", []string{"-1", "99999999999999999999"}},
		{"MAX_CONNECTIONS_PER_ADDRESS", "from 0", []string{"many"}},
		{"ALLOWED_HOSTS", "chat.example.com, without a port", []string{"a b", "https://a", "a:80", "a,", "*.a", "[::1]"}},
		{"ALLOWED_ORIGINS", "https://host", []string{"a.b", "https://", "https://:443", "ftp://a.b", "https://a.b/path", "https://a.b?q", "https://a.b?q=1",
			"https://u@a.b", "https://a.b#f", "https://*.a.b/x", "https://a.b,", "null", "https://a b", "**"}},
		{"TRUSTED_PROXIES", "10.0.0.0/8", []string{"10.0.0.0/33", "10.0.0", "proxy", "10.0.0.1:80", "::ffff:10.0.0.0/104", "10.0.0.1,"}},
		{"USER_HEADER", "hyphens", []string{"X Forwarded User"}},
		{"LOG_LEVEL", "debug, info, warn and error", []string{"loud"}},
		{"KAFKA_BROKER", "host:port", []string{"kafka:http"}},
	} {
		for _, value := range c.values {
			_, err := load(c.name, value)
			if err == nil {
				t.Errorf("%s=%.50q: valid", c.name, value)
				continue
			}
			if text := err.Error(); !strings.Contains(text, c.name+"="+strconv.Quote(value)) || !strings.Contains(text, c.valid) || cli.Exit(t.Logf, err) != cli.Usage {
				t.Errorf("%s=%.50q: the error is %q", c.name, value, err)
			}
		}
	}
	for _, c := range [][]string{ // each valid by itself
		{"KAFKA_BROKER", "kafka:9092", "DATA_DIR", "/data"},
		{"MESSAGE_BYTES", "8193", "LOG_BYTES", "65536"},
		{"USER_HEADER", "X-Forwarded-User", "TRUSTED_PROXIES", ""},
		{"KAFKA_TLS", "true", "KAFKA_BROKER", ""},
		{"KAFKA_SASL_MECHANISM", "PLAIN", "KAFKA_BROKER", "", "KAFKA_SASL_USERNAME", "u", "KAFKA_SASL_PASSWORD", "p"},
	} {
		if _, err := load(c...); err == nil || !strings.Contains(err.Error(), c[0]) || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

// The log says at the start where the metrics are, and what is allowed and dangerous: every web site may chat, a password
// goes in the clear, everybody on the network can use the embedded broker.
func TestTell(t *testing.T) {
	t.Parallel()
	c, err := load("ALLOWED_ORIGINS", "*", "EMBEDDED_ADDR", ":9093", "KAFKA_BROKER", "kafka", "KAFKA_SASL_MECHANISM", "PLAIN", "KAFKA_SASL_USERNAME", "u", "KAFKA_SASL_PASSWORD", "p")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	metrics := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9090}
	c.Tell(slog.New(slog.NewTextHandler(&log, nil)), metrics)
	if text := log.String(); strings.Count(text, "level=WARN") != 3 || !strings.Contains(text, "http://127.0.0.1:9090/metrics") ||
		!strings.Contains(text, "ALLOWED_ORIGINS=*") || !strings.Contains(text, "KAFKA_TLS") || !strings.Contains(text, "EMBEDDED_ADDR has no effect") {
		t.Errorf("the log is\n%s", text)
	}
	for addr, broker := range map[string]string{"0.0.0.0:0": "127.0.0.1:9093", "192.0.2.7:0": "192.0.2.7:9093"} {
		if c, err = load("EMBEDDED_ADDR", addr); err != nil {
			t.Fatal(err)
		}
		c.Cluster.Brokers = []string{broker}
		log.Reset()
		c.Tell(slog.New(slog.NewTextHandler(&log, nil)), metrics)
		if text := log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, ":9093") ||
			ops.Outward() != "" && strings.Contains(text, "KAFKA_BROKER=127.") { // a machine without a network has no other address
			t.Errorf("the log is\n%s", text)
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
		c, err := load(v.Name, value, "POD_NAME", "p")
		if err != nil {
			if !strings.Contains(err.Error(), v.Name) || !utf8.ValidString(err.Error()) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s=%q: the error is %q", v.Name, value, err)
			}
			return
		}
		if l := c.Limits; c.Port < 0 || c.Port > 65535 || c.Topic == "" || c.Pod == "" || !utf8.ValidString(c.Pod) || c.LogBytes < 64<<10 ||
			l.MessageBytes < 1 || l.MessageRate < 1 || l.ByteRate < 1 || l.Connections < 0 || l.PerAddress < 0 ||
			c.PublishTimeout < time.Second || c.PublishTimeout > time.Hour || c.DrainTimeout < time.Second || c.DrainTimeout > time.Hour {
			t.Errorf("%s=%q: %+v", v.Name, value, c)
		}
		// What sarama takes, of a length that an operator can read.
		if id := c.ClientID("x"); len(id) > 200 || !strings.HasPrefix(id, "chatserver-x-") ||
			strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			t.Errorf("%s=%q: client id %q", v.Name, value, id)
		}
	})
}

// What -h lists, the README's tables have, a row for each variable as the settings have it.
func TestFlags(t *testing.T) {
	t.Parallel()
	answer := func(args ...string) (string, error) {
		var stdout bytes.Buffer
		_, err := settings.Load(args, func(string) string { return "" }, &stdout)
		return stdout.String(), err
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	help, err := answer("-h")
	if !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	rows := make(map[string]string)
	for _, v := range kafka.Variables() {
		rows[v.Name] = "`" + v.Name + "`"
	}
	for _, v := range settings.Variables() {
		value := "`" + v.Default + "`"
		if sentence, ok := strings.CutPrefix(v.Default, "("); ok {
			value = strings.TrimSuffix(sentence, ")")
		}
		rows[v.Name] = fmt.Sprintf("| `%s` | %s | %s |\n", v.Name, value, v.Meaning)
	}
	rows["TOPIC"] = "`TOPIC`" // the tools have that one, too
	for name, row := range rows {
		if !strings.Contains(help, "\n  "+name+" ") {
			t.Errorf("-h does not list %s:\n%s", name, help)
		}
		if !strings.Contains(string(readme), row) {
			t.Errorf("README.md has no row\n%s", row)
		}
	}
	if version, err := answer("-version"); !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(version, "chatserver ") {
		t.Errorf("-version: %v, %q", err, version)
	}
	for _, args := range [][]string{{"8001"}, {"-port", "8001"}} {
		if _, err := answer(args...); err == nil || !strings.Contains(err.Error(), "PORT=8001") || cli.Exit(t.Logf, err) != cli.Usage {
			t.Errorf("%q: %v", args, err)
		}
	}
}
