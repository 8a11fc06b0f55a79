// Package settings reads the chat server's environment. A value that is not valid stops the start
// with a sentence that names the variable, the value and what would be valid.
package settings

import (
	"errors"
	"flag"
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
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/room"
	"kafkachat/internal/cli"
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
	AdminAddr      string // of the metrics and the profiler; "" is a free one on loopback
	Where          string // "cluster" in Kubernetes, else "laptop"
	Limits         room.Limits
}

const (
	defaultPort = 8000
	// longestTopic is less than kafka.MaxTopic: the name of the pods' own topic is this one and ".pods".
	longestTopic = 240
	// logMessages is how many messages of the largest size the frame log must hold, in both encodings.
	logMessages = 8
	// largestMessage leaves room for the headers in the 1,048,588 bytes of a record batch that Kafka
	// takes by default (message.max.bytes).
	largestMessage = 1_000_000
)

// A Variable is an environment variable that Load reads. Its default is a value, or a sentence in
// parentheses.
type Variable struct {
	Name, Default, Meaning string
	set                    func(value string) error
}

// Variables lists what Load reads, besides what kafka.Variables lists.
func Variables() []Variable { return new(Config).variables() }

func (c *Config) variables() []Variable {
	l := &c.Limits
	return []Variable{
		{"PORT", strconv.Itoa(defaultPort), "port of the page and the websocket; 0 takes a free one", whole(&c.Port, 0, 65535)},
		{"TOPIC", kafka.DefaultTopic, "topic of the chat", text(&c.Topic, checkTopic)},
		{"POD_NAME", "(`podname`, then the host's name, with the port if that is not 8000)", "name of this server, shown in the page", text(&c.Pod, checkPod)},
		{"EMBEDDED_ADDR", "127.0.0.1:9092", "where the embedded broker listens, if `KAFKA_BROKER` is not set", text(&c.EmbeddedAddr, checkAddr)},
		{"DATA_DIR", "(none: in memory)", "folder for the embedded broker's records", text(&c.DataDir, nil)},
		{"LOG_BYTES", "16777216", "memory for messages ready to be sent, shared by all clients", whole(&c.LogBytes, 64<<10, 1<<40)},
		{"PUBLISH_TIMEOUT", "10s", "how long a client without `chat.v1` waits for Kafka before it is cut off", duration(&c.PublishTimeout, time.Second, time.Hour)},
		{"DRAIN_TIMEOUT", "30s", "how long a stopping server may take to send its clients away", duration(&c.DrainTimeout, time.Second, time.Hour)},
		{"ADMIN_ADDR", "(127.0.0.1:9090, or a free port)", "where `/metrics` and `/debug/pprof/` are served", text(&c.AdminAddr, checkAddr)},
		{"MESSAGE_BYTES", strconv.Itoa(chat.MaxText), "longest message of a client", whole(&l.MessageBytes, 1, largestMessage)},
		{"MESSAGE_RATE", "20", "messages a second that a connection may send, after a burst of 5 times as many; faster ones wait", whole(&l.MessageRate, 1, 1_000_000)},
		{"BYTE_RATE", "16384", "bytes of messages a second that a connection may send, after a burst of 16 times as many; faster ones wait", whole(&l.ByteRate, 1, 1<<30)},
		{"MAX_CONNECTIONS", "20000", "websockets at once, as far as the process may open files; 0 is no other limit", whole(&l.Connections, 0, 1_000_000_000)},
		{"MAX_CONNECTIONS_PER_ADDRESS", "0", "of them, from one address; 0 is no limit", whole(&l.PerAddress, 0, 1_000_000_000)},
		{"ALLOWED_HOSTS", "(none)", "names of this server, with commas, besides IP addresses, `localhost` and the machine's own names; `*` allows all", list(&l.Hosts, room.ParseHosts)},
		{"ALLOWED_ORIGINS", "(none)", "web sites besides the server's own whose pages may connect, with commas; `*` allows all", list(&l.Origins, room.ParseOrigins)},
		{"TRUSTED_PROXIES", "(none)", "addresses and networks, with commas, whose `X-Forwarded-For` is believed", list(&l.TrustedProxies, room.ParseProxies)},
		{"USER_HEADER", "(none)", "header in which `TRUSTED_PROXIES` say who has signed in, such as `X-Forwarded-User`; whoever comes without is refused", text(&l.UserHeader, checkHeader)},
		{"LOG_LEVEL", "info", "`debug`, `info`, `warn` or `error`", level(&c.LogLevel)},
	}
}

// Load reads the environment.
func Load(getenv func(string) string) (*Config, error) {
	c := &Config{Embedded: getenv("KAFKA_BROKER") == "", Where: "laptop"}
	if getenv("KUBERNETES_SERVICE_HOST") != "" { // Kubernetes sets it in every container
		c.Where = "cluster"
	}
	var err error
	if c.Cluster, err = kafka.FromEnv(getenv); err != nil {
		return nil, err
	}
	c.Cluster.BrokerInside = true // while KAFKA_BROKER is unset
	for _, v := range c.variables() {
		value := strings.TrimSpace(getenv(v.Name))
		if value == "" && !strings.HasPrefix(v.Default, "(") {
			value = v.Default
		}
		if value == "" {
			continue
		}
		if err := v.set(value); err != nil {
			return nil, fmt.Errorf("%s=%q: %w", v.Name, value, err)
		}
	}
	if c.Pod == "" {
		if c.Pod, err = podName(getenv("podname"), c.Port); err != nil {
			return nil, err
		}
	}
	return c, c.check(getenv)
}

// podName is the pod's name if POD_NAME does not say it: podname is how the lab spells that.
func podName(podname string, port int) (string, error) {
	if podname != "" {
		if err := checkPod(podname); err != nil {
			return "", fmt.Errorf("podname=%q: %w", podname, err)
		}
		return podname, nil
	}
	host, err := os.Hostname()
	if err == nil {
		err = checkPod(host)
	}
	if err != nil {
		return "", fmt.Errorf("POD_NAME is not set, and the host's name %q cannot stand in for it: %w", host, err)
	}
	if port != defaultPort && port != 0 {
		host += ":" + strconv.Itoa(port) // several servers on one laptop
	}
	return host, nil
}

// check returns what is wrong with variables that are valid one by one.
func (c *Config) check(getenv func(string) string) error {
	switch {
	case c.DataDir != "" && !c.Embedded:
		return fmt.Errorf("DATA_DIR=%q is for the embedded broker, which KAFKA_BROKER=%q turns off: unset one of them", c.DataDir, getenv("KAFKA_BROKER"))
	case c.LogBytes < logMessages*c.Limits.MessageBytes:
		return fmt.Errorf("LOG_BYTES=%d is too little for MESSAGE_BYTES=%d: valid is %d times as much and more", c.LogBytes, c.Limits.MessageBytes, logMessages)
	case c.Limits.UserHeader != "" && len(c.Limits.TrustedProxies) == 0:
		return fmt.Errorf("USER_HEADER=%q is believed from TRUSTED_PROXIES only: set both", c.Limits.UserHeader)
	}
	return nil
}

// KafkaHere is where other programs on this laptop find the chat's Kafka; "" in a cluster, whose
// clients need not know.
func (c *Config) KafkaHere() string {
	if c.Where != "laptop" {
		return ""
	}
	return strings.ReplaceAll(strings.Join(c.Cluster.Brokers, ","), "127.0.0.1", "localhost")
}

// Answer prints what the flags -h and -version ask for, and says whether one of them was there.
func Answer(args []string, stdout io.Writer) (answered bool, err error) {
	flags := flag.NewFlagSet("chatserver", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller says the error
	version := flags.Bool("version", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdout, "chatserver is a chat in the browser, over a Kafka topic. -version prints its edition.\nIt reads these environment variables:")
		for _, v := range kafka.Variables() {
			fmt.Fprintf(stdout, "  %-28s%s\n", v.Name, v.Meaning)
		}
		for _, v := range Variables() {
			fmt.Fprintf(stdout, "  %-28s%s (%s)\n", v.Name, strings.ReplaceAll(v.Meaning, "`", ""), strings.Trim(v.Default, "()"))
		}
		return true, nil
	case err != nil:
		return false, cli.Fail(cli.Usage, fmt.Errorf("%w; -h lists the environment variables by which it is set up", err))
	case flags.NArg() > 0:
		return false, cli.Fail(cli.Usage, fmt.Errorf("argument %q is one too many: the environment sets it up, -h lists the variables", flags.Arg(0)))
	case *version:
		fmt.Fprintln(stdout, "chatserver", ops.Edition())
	}
	return *version, nil
}

// Warn says in the log what an operator should know of these settings, and later which brokers
// cannot be used.
func (c *Config) Warn(log *slog.Logger) {
	if c.Limits.AnyOrigin() {
		log.Warn("ALLOWED_ORIGINS=* lets every web site chat in the name of whoever visits it")
	}
	if err := c.Cluster.Insecure(); err != nil {
		log.Warn("the way to Kafka is not protected", "err", err)
	}
	c.Cluster.Warn = func(err error) { log.Warn("cannot use a Kafka broker", "err", err) }
}

// ClientID names a part of this server to the brokers; what Kafka does not allow in it is replaced.
func (c *Config) ClientID(part string) string {
	id := []byte("chatserver-" + part + "-" + c.Pod)
	for i, b := range id {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", rune(b)) {
			id[i] = '-'
		}
	}
	return string(id[:min(len(id), 200)])
}

func whole(target *int, low, high int) func(string) error {
	return func(v string) (err error) {
		if *target, err = strconv.Atoi(v); err != nil || *target < low || *target > high {
			return fmt.Errorf("valid is a whole number from %d to %d", low, high)
		}
		return nil
	}
}

func duration(target *time.Duration, low, high time.Duration) func(string) error {
	return func(v string) (err error) {
		if *target, err = time.ParseDuration(v); err != nil || *target < low || *target > high {
			return fmt.Errorf("valid is a time from %s to %s, such as 10s or 1m30s", low, high)
		}
		return nil
	}
}

// text takes what check, which may be nil, lets pass.
func text(target *string, check func(string) error) func(string) error {
	return func(v string) error {
		if *target = v; check == nil {
			return nil
		}
		return check(v)
	}
}

func list[T any](target *[]T, parse func(string) ([]T, error)) func(string) error {
	return func(v string) (err error) {
		*target, err = parse(v)
		return err
	}
}

func level(target *slog.Level) func(string) error {
	return func(v string) error {
		if target.UnmarshalText([]byte(v)) != nil {
			return errors.New("valid are debug, info, warn and error")
		}
		return nil
	}
}

func checkTopic(topic string) error { return kafka.CheckTopic(topic, longestTopic) }

func checkAddr(addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return errors.New("valid are host:port and :port")
	}
	return nil
}

// checkPod allows what a record's header carries and a page can show.
func checkPod(name string) error {
	if len(name) > chat.MaxPod || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("valid is a name of 1 to %d bytes of printable UTF-8", chat.MaxPod)
	}
	return nil
}

func checkHeader(name string) error {
	if strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return errors.New("valid is the name of a header: letters, digits and hyphens")
	}
	return nil
}
