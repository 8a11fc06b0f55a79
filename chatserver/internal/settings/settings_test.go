package settings_test

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

func load(env map[string]string) (*settings.Config, error) {
	return settings.Load(nil, func(name string) string { return env[name] }, nil)
}

func TestValues(t *testing.T) {
	host, _ := os.Hostname()
	for want, env := range map[string]map[string]string{
		host + " 8000 chat [localhost:9092] true   16777216 10s 30s  laptop INFO {20000 0 [] [] []  8192 20 16384}\n":        nil,
		host + ":40000 40000 chat [localhost:9092] true   16777216 10s 30s  laptop INFO {20000 0 [] [] []  8192 20 16384}\n": {"PORT": "0"},
		"of the lab 81 My.topic_1-x [localhost:9092] true [::1]:0 /data 65536 1m30s 1h0m0s :9090 laptop DEBUG {20000 0 [] [] []  1 2 3}\n": {
			"podname": "of the lab", "PORT": "81", "TOPIC": "My.topic_1-x", "EMBEDDED_ADDR": "[::1]:0", "DATA_DIR": "/data", "LOG_BYTES": "65536",
			"PUBLISH_TIMEOUT": "1m30s", "DRAIN_TIMEOUT": "1h", "ADMIN_ADDR": ":9090", "LOG_LEVEL": "debug",
			"MESSAGE_BYTES": "1", "MESSAGE_RATE": "2", "BYTE_RATE": "3"},
		"Pod <1> ü 80 chat [kafka:9092] false   16777216 10s 30s  cluster INFO {0 7 [chat.example.com *] [https://a http://c https://x:81 *] " +
			"[10.0.0.0/8 192.0.2.1/32 192.0.2.2/32 fd00::/8] X-User 8192 20 16384}\n": {
			"POD_NAME": "Pod <1> ü", "podname": "second", "PORT": " 80 ", "KAFKA_BROKER": "kafka:9092", "KUBERNETES_SERVICE_HOST": "10.0.0.1",
			"MAX_CONNECTIONS": "0", "MAX_CONNECTIONS_PER_ADDRESS": "7", "ALLOWED_HOSTS": "Chat.example.com, *", "USER_HEADER": "X-User",
			"ALLOWED_ORIGINS": " https://a/ ,http://C:80,https://x:81,*", "TRUSTED_PROXIES": " 10.1.2.3/8, 192.0.2.1,::ffff:192.0.2.2 , fd00::1/8"},
	} {
		c, err := load(env)
		if err != nil {
			t.Fatal(err)
		}
		c.SetPort(cmp.Or(c.Port, 40000))
		got := fmt.Sprintln(c.Pod, c.Port, c.Topic, c.Cluster.Brokers, c.Embedded, c.EmbeddedAddr, c.DataDir, c.LogBytes, c.PublishTimeout,
			c.DrainTimeout, c.AdminAddr, c.Where, c.LogLevel, c.Limits)
		if got != want {
			t.Errorf("%v: %s, want %s", env, got, want)
		}
	}
}

// An error names the variable, its value and what would be valid, and means wrong usage. FuzzLoad has more bounds.
func TestBadValues(t *testing.T) {
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
		{"ADMIN_ADDR", "host:port", []string{"9090"}},
		{"EMBEDDED_ADDR", "host:port, such as 127.0.0.1:9093", []string{"9093", "localhost", "a:", "a:http", ":65536", "::1:9093"}},
		{"MESSAGE_BYTES", "from 1 to 1000000", []string{"0", "1000001"}},
		{"MESSAGE_RATE", "whole number from 1", []string{"0", "fast"}},
		{"MAX_CONNECTIONS", "from 0", []string{"-1", "99999999999999999999"}},
		{"ALLOWED_HOSTS", "chat.example.com, without a port", []string{"a b", "https://a", "a:80", "a,", "*.a", "[::1]"}},
		{"ALLOWED_ORIGINS", "https://host", []string{"a.b", "http://:1", "ftp://a", "https://a/path", "https://a?q", "https://a,", "null", "**"}},
		{"TRUSTED_PROXIES", "10.0.0.0/8", []string{"10.0.0.0/33", "10.0.0", "proxy", "10.0.0.1:80", "::ffff:10.0.0.0/104", "10.0.0.1,"}},
		{"USER_HEADER", "hyphens", []string{"X Forwarded User"}},
		{"LOG_LEVEL", "debug, info, warn and error", []string{"loud"}},
		{"KAFKA_BROKER", "host:port", []string{"kafka:http"}},
	} {
		for _, value := range c.values {
			_, err := load(map[string]string{c.name: value})
			text, given := fmt.Sprint(err), fmt.Sprintf("%s=%q", c.name, value)
			if !strings.Contains(text, given) || !strings.Contains(text, c.valid) || cli.Exit(t.Logf, err) != cli.Usage {
				t.Errorf("%.70s: the error is %s", given, text)
			}
		}
	}
	for want, env := range map[string]map[string]string{ // each value is valid by itself
		"DATA_DIR=.*KAFKA_BROKER=":          {"KAFKA_BROKER": "kafka:9092", "DATA_DIR": "/data"},
		"LOG_BYTES=.*MESSAGE_BYTES=":        {"MESSAGE_BYTES": "8193", "LOG_BYTES": "65536"},
		"USER_HEADER=.*TRUSTED_PROXIES":     {"USER_HEADER": "X-Forwarded-User"},
		"KAFKA_TLS and .*KAFKA_BROKER":      {"KAFKA_TLS": "true"},
		"KAFKA_SASL_MECHANISM .*set KAFKA_": {"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p"},
	} {
		if _, err := load(env); !regexp.MustCompile(want).MatchString(fmt.Sprint(err)) {
			t.Errorf("%v: %v", env, err)
		}
	}
}

// The log says at the start where the metrics are, and what is allowed and dangerous.
func TestTell(t *testing.T) {
	for _, c := range []struct {
		env    map[string]string
		broker string
		want   string // a pattern of all warnings
	}{
		{map[string]string{"ALLOWED_ORIGINS": "*", "EMBEDDED_ADDR": ":9093", "KAFKA_BROKER": "kafka", "KAFKA_SASL_MECHANISM": "PLAIN",
			"KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p"}, "kafka:9092",
			`.*WARN.*EMBEDDED_ADDR has no effect.*\n.*WARN.*ALLOWED_ORIGINS=\*.*\n.*WARN.*KAFKA_TLS.*`},
		{map[string]string{"EMBEDDED_ADDR": "0.0.0.0:0"}, "127.0.0.1:9093", `.*WARN.*=` + cmp.Or(ops.Outward(), "127.0.0.1") + ":9093"},
		{map[string]string{"EMBEDDED_ADDR": "192.0.2.7:0"}, "192.0.2.7:9093", `.*WARN.* KAFKA_BROKER=192.0.2.7:9093`},
	} {
		config, err := load(c.env)
		if err != nil {
			t.Fatal(err)
		}
		config.Cluster.Brokers = []string{c.broker}
		var log bytes.Buffer
		config.Tell(slog.New(slog.NewTextHandler(&log, nil)), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9090})
		if !regexp.MustCompile(`^.*url=http://127.0.0.1:9090/metrics\n` + c.want + `\n$`).MatchString(log.String()) {
			t.Errorf("%v: the log is\n%s", c.env, &log)
		}
	}
}

// One variable is anything: Load never panics, an error names the variable, and what is valid is within its bounds.
func FuzzLoad(f *testing.F) {
	variables := settings.Variables()
	for i, v := range variables {
		for _, value := range []string{v.Default, "", "0", "-1", "9999999999999999999999", "https://a,*", "::1", "\xff\x00", "1h2m3s", "ü"} {
			f.Add(uint8(i), value)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		v := variables[int(which)%len(variables)]
		c, err := load(map[string]string{v.Name: value})
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
		if id := c.ClientID("x"); len(id) > 200 || !regexp.MustCompile(`^chatserver-x-[A-Za-z0-9._-]*$`).MatchString(id) {
			t.Errorf("%s=%q: client id %q", v.Name, value, id)
		}
	})
}

// What -h lists, the README's tables have, a row for each variable as the settings have it.
func TestFlags(t *testing.T) {
	answer := func(args ...string) (string, error) {
		var stdout bytes.Buffer
		_, err := settings.Load(args, func(string) string { return "" }, &stdout)
		return stdout.String(), err
	}
	readme, unread := os.ReadFile("../../../README.md")
	help, err := answer("-h")
	if unread != nil || !errors.Is(err, flag.ErrHelp) {
		t.Errorf("%v; -h: %v", unread, err)
	}
	rows := make(map[string]string)
	for _, v := range settings.Variables() {
		value := "`" + v.Default + "`"
		if strings.HasPrefix(v.Default, "(") {
			value = strings.Trim(v.Default, "()")
		}
		rows[v.Name] = fmt.Sprintf("| `%s` | %s | %s |\n", v.Name, value, v.Meaning)
	}
	for _, v := range append(kafka.Variables(), kafka.Variable{Name: "TOPIC"}) { // the tools have these, too
		rows[v.Name] = "`" + v.Name + "`"
	}
	for name, row := range rows {
		if !strings.Contains(help, "\n  "+name+" ") || !strings.Contains(string(readme), row) {
			t.Errorf("-h does not list %s, or README.md has no row\n%s:\n%s", name, row, help)
		}
	}
	if version, err := answer("-version"); !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(version, "chatserver ") {
		t.Errorf("-version: %v, %q", err, version)
	}
	if _, err := answer("-port", "8001"); !strings.Contains(fmt.Sprint(err), "PORT=8001") || cli.Exit(t.Logf, err) != cli.Usage {
		t.Errorf("-port: %v", err)
	}
}
