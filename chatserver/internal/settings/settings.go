// Package settings reads the chat server's environment. A value that cannot be read stops the
// start with a sentence that names the variable, the value and what would be valid.
package settings

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/room"
	"kafkachat/internal/kafka"
)

// Config is the chat server's configuration. It does not change after Load.
type Config struct {
	Port           int    // of the page and the websocket; 0 takes a free one
	Topic          string // of the chat
	Pod            string // this server's name
	Cluster        *kafka.Cluster
	Embedded       bool   // no Kafka is named: run one inside
	EmbeddedAddr   string // where it listens
	DataDir        string // of the embedded broker; "" keeps its records in memory
	LogBytes       int    // of the frame log
	PublishTimeout time.Duration
	DrainTimeout   time.Duration
	LogLevel       slog.Level
	AdminAddr      string // of the metrics and the profiler; "" is where they are by default
	MessageBytes   int    // of the longest text that a client may send
	MessageRate    int    // messages a second that a connection may send
	Limits         room.Limits
}

const defaultPort = 8000

// longestTopic is less than kafka.MaxTopic, since the pods' own topic has a suffix behind this name.
const longestTopic = 240

// A Variable is an environment variable that Load reads.
type Variable struct {
	Name, Default, Meaning string
	set                    func(c *Config, value string) error
}

// Variables lists what Load reads, besides what kafka.Variables lists.
func Variables() []Variable {
	return []Variable{
		{"PORT", "8000", "port of the page and the websocket", func(c *Config, v string) (err error) {
			c.Port, err = integer(v, 0, 65535)
			return err
		}},
		{"TOPIC", kafka.DefaultTopic, "topic of the chat", func(c *Config, v string) error {
			c.Topic = v
			return kafka.CheckTopic(v, longestTopic)
		}},
		{"POD_NAME", "podname, then the host name, with the port if it is not 8000", "this server's name, shown in the page", func(c *Config, v string) error {
			c.Pod = v
			return nil
		}},
		{"EMBEDDED_ADDR", "127.0.0.1:9092", "where the embedded broker listens, if KAFKA_BROKER is not set", func(c *Config, v string) error {
			c.EmbeddedAddr = v
			return checkAddr(v)
		}},
		{"DATA_DIR", "none: records are kept in memory", "folder for the embedded broker's records", func(c *Config, v string) error {
			c.DataDir = v
			return nil
		}},
		{"LOG_BYTES", "16777216", "memory for messages ready to be sent, shared by all clients", func(c *Config, v string) (err error) {
			c.LogBytes, err = integer(v, 64<<10, 1<<40)
			return err
		}},
		{"PUBLISH_TIMEOUT", "10s", "how long a client without chat.v1 waits for Kafka before it is cut off", func(c *Config, v string) (err error) {
			c.PublishTimeout, err = duration(v, time.Second, time.Hour)
			return err
		}},
		{"DRAIN_TIMEOUT", "30s", "how long a stopping server may take to send its clients away", func(c *Config, v string) (err error) {
			c.DrainTimeout, err = duration(v, time.Second, time.Hour)
			return err
		}},
		{"ADMIN_ADDR", "127.0.0.1:9090, or a free port", "where /metrics and /debug/pprof/ are served", func(c *Config, v string) error {
			c.AdminAddr = v
			return checkAddr(v)
		}},
		{"MESSAGE_BYTES", "8192", "longest message that a client may send", func(c *Config, v string) (err error) {
			c.MessageBytes, err = integer(v, 1, chat.MaxForeign)
			return err
		}},
		{"MESSAGE_RATE", "500", "messages a second that a connection may send; faster ones wait", func(c *Config, v string) (err error) {
			c.MessageRate, err = integer(v, 1, 1e6)
			return err
		}},
		{"MAX_CONNECTIONS", "20000", "websockets at once; 0 is no limit", func(c *Config, v string) (err error) {
			c.Limits.Connections, err = integer(v, 0, 1e9)
			return err
		}},
		{"MAX_CONNECTIONS_PER_ADDRESS", "0", "websockets at once from one address; 0 is no limit, since a class often shares one", func(c *Config, v string) (err error) {
			c.Limits.PerAddress, err = integer(v, 0, 1e9)
			return err
		}},
		{"ALLOWED_ORIGINS", "none", "web sites besides the server's own whose pages may connect, with commas; * allows all", func(c *Config, v string) (err error) {
			c.Limits.Origins, err = room.ParseOrigins(v)
			return err
		}},
		{"TRUSTED_PROXIES", "none", "addresses and networks whose X-Forwarded-For is believed, with commas", func(c *Config, v string) (err error) {
			c.Limits.TrustedProxies, err = room.ParseProxies(v)
			return err
		}},
		{"LOG_LEVEL", "info", "debug, info, warn or error", func(c *Config, v string) error {
			if err := c.LogLevel.UnmarshalText([]byte(v)); err != nil {
				return fmt.Errorf("valid are debug, info, warn and error")
			}
			return nil
		}},
	}
}

// Usage says what Load reads, a line each.
func Usage(w io.Writer) {
	fmt.Fprintln(w, "chatserver takes no arguments. It reads these environment variables:")
	for _, v := range kafka.Variables() {
		fmt.Fprintf(w, "  %-28s%s\n", v.Name, v.Meaning)
	}
	for _, v := range Variables() {
		fmt.Fprintf(w, "  %-28s%s (%s)\n", v.Name, v.Meaning, v.Default)
	}
}

// Load reads the environment.
func Load(getenv func(string) string) (*Config, error) {
	cluster, err := kafka.FromEnv(getenv)
	if err != nil {
		return nil, err
	}
	c := &Config{
		Port: defaultPort, Topic: kafka.DefaultTopic, Pod: getenv("podname"), // as the lab spells it
		Cluster: cluster, Embedded: getenv("KAFKA_BROKER") == "", EmbeddedAddr: "127.0.0.1:9092",
		MessageBytes: chat.MaxText, MessageRate: 500, Limits: room.Limits{Connections: 20000},
		LogBytes: 16 << 20, PublishTimeout: 10 * time.Second, DrainTimeout: 30 * time.Second,
	}
	for _, v := range Variables() {
		value := strings.TrimSpace(getenv(v.Name))
		if value == "" {
			continue
		}
		if err := v.set(c, value); err != nil {
			return nil, fmt.Errorf("%s=%q: %w", v.Name, value, err)
		}
	}
	if c.Pod == "" {
		if c.Pod, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("POD_NAME is not set and this machine does not say its name: %w", err)
		}
		if c.Port != defaultPort && c.Port != 0 {
			c.Pod += ":" + strconv.Itoa(c.Port) // several servers on one laptop
		}
	}
	if err := checkPod(c.Pod); err != nil {
		return nil, fmt.Errorf("POD_NAME (or podname, or the host name) is %q: %w", c.Pod, err)
	}
	if c.DataDir != "" && !c.Embedded {
		return nil, fmt.Errorf("DATA_DIR=%q is for the embedded broker, which KAFKA_BROKER=%q turns off: unset one of them",
			c.DataDir, getenv("KAFKA_BROKER"))
	}
	return c, nil
}

func checkAddr(addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return errors.New("valid are host:port and :port")
	}
	return nil
}

// checkPod allows what a record's header carries and a page can show.
func checkPod(name string) error {
	if len(name) > chat.MaxPod || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("valid is a name of 1 to %d bytes of printable UTF-8", chat.MaxPod)
	}
	return nil
}

func integer(v string, low, high int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("valid is a whole number from %d to %d", low, high)
	}
	return n, nil
}

func duration(v string, low, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < low || d > high {
		return 0, fmt.Errorf("valid is a time from %s to %s, such as 10s or 1m30s", low, high)
	}
	return d, nil
}

// Logger returns a logger that writes text for a person at a terminal, and JSON for what collects
// logs.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			handler = slog.NewTextHandler(w, options)
		}
	}
	return slog.New(handler).With("pod", c.Pod)
}

// ClientID names a part of this server to the brokers; what Kafka does not allow in it is replaced.
func (c *Config) ClientID(part string) string {
	id := []byte("chatserver-" + part + "-" + c.Pod)
	for i, b := range id {
		if !validInID(b) {
			id[i] = '-'
		}
	}
	return string(id[:min(len(id), 200)])
}

func validInID(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
