// Package settings reads the chat server's environment. A value that is not valid stops the start
// with a sentence that names the variable, the value and what would be valid.
package settings

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/room"
	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

// Config is the chat server's configuration. It does not change once the server listens.
type Config struct {
	Port           int    // of the page and the websocket; 0 takes a free one, until SetPort
	Topic          string // of the chat
	Pod            string // this server's name
	Cluster        *kafka.Cluster
	Embedded       bool   // no Kafka is named: run an embedded broker
	EmbeddedAddr   string // of the embedded broker; "" is the usual one, or a free port
	DataDir        string // of the embedded broker; "" keeps its records in memory
	LogBytes       int    // of the frame log
	PublishTimeout time.Duration
	DrainTimeout   time.Duration
	LogLevel       slog.Level
	AdminAddr      string // of the metrics and the profiler; "" is a free one on loopback
	Where          string // "cluster" in Kubernetes, else "laptop"
	Limits         room.Limits
	unnamed        bool // Pod is the host's name
}

const manual = `chatserver is a chat in the browser over a Kafka topic. Settings are environment variables.

    go run ./chatserver                                           a chat with a Kafka broker inside
    PORT=8001 KAFKA_BROKER=localhost:9092 go run ./chatserver     a second pod of the same chat
`

const (
	defaultPort = 8000
	// logMessages is how many messages of the largest size the frame log must hold, in both
	// encodings.
	logMessages = 8
	// largestMessage leaves room for the headers in the 1,048,588 bytes of a record batch that
	// Kafka takes by default (message.max.bytes).
	largestMessage = 1_000_000
	many           = 1_000_000_000
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
	number := func(target *int, low, high int) func(string) error {
		return within(target, strconv.Atoi, "a whole number", low, high)
	}
	timeout := func(target *time.Duration) func(string) error {
		return within(target, time.ParseDuration, "a time such as 10s or 1m30s,", time.Second, time.Hour)
	}
	host := matching(`\*|[A-Za-z0-9._-]+`, "are names such as chat.example.com, without a port, and *")
	return []Variable{
		{"PORT", strconv.Itoa(defaultPort), "port of the page and the websocket; 0 takes a free one", number(&c.Port, 0, 65535)},
		{"TOPIC", kafka.DefaultTopic, "topic of the chat", text(&c.Topic, checkTopic)},
		{"POD_NAME", "(the variable `podname`, else the host's name, with the port if that is not 8000)", "name of this server, shown in the page", text(&c.Pod, chat.CheckPod)},
		{"EMBEDDED_ADDR", "(127.0.0.1:9092, or a free port)", "address of the embedded broker, which runs if `KAFKA_BROKER` is not set", text(&c.EmbeddedAddr, address)},
		{"DATA_DIR", "(none: in memory)", "folder for the embedded broker's records", text(&c.DataDir, matching(`(?s).*`, "is any"))},
		{"LOG_BYTES", "16777216", "memory of the frame log, in bytes; all clients share it", number(&c.LogBytes, 64<<10, 1<<40)},
		{"PUBLISH_TIMEOUT", "10s", "how long a message of a client without `chat.v1` may wait for Kafka; then the websocket is closed", timeout(&c.PublishTimeout)},
		{"DRAIN_TIMEOUT", "30s", "how long a stopping server may take to close its websockets", timeout(&c.DrainTimeout)},
		{"ADMIN_ADDR", "(127.0.0.1:9090, or a free port)", "address of `/metrics` and `/debug/pprof/`", text(&c.AdminAddr, address)},
		{"MESSAGE_BYTES", strconv.Itoa(chat.MaxText), "longest message of a client, in bytes", number(&l.MessageBytes, 1, largestMessage)},
		{"MESSAGE_RATE", "20", "messages a second that a connection may send, after a burst of 5 times as many; faster ones wait", number(&l.MessageRate, 1, 1_000_000)},
		{"BYTE_RATE", "16384", "bytes of messages a second that a connection may send, after a burst of 16 times as many; faster ones wait", number(&l.ByteRate, 1, 1<<30)},
		{"MAX_CONNECTIONS", "20000", "most websockets at once; the limit of open files may allow fewer, and with 0 is the only limit", number(&l.Connections, 0, many)},
		{"MAX_CONNECTIONS_PER_ADDRESS", "0", "most websockets at once from one address; 0 is no limit", number(&l.PerAddress, 0, many)},
		{"ALLOWED_HOSTS", "(none)", "names of this server, besides IP addresses, `localhost` and the machine's own names, separated by commas; `*` allows all", list(&l.Hosts, func(v string) (string, error) { return strings.ToLower(v), host(v) })},
		{"ALLOWED_ORIGINS", "(none)", "web sites whose pages may connect, besides the server's own, separated by commas; `*` allows all", list(&l.Origins, site)},
		{"TRUSTED_PROXIES", "(none)", "addresses and networks of proxies whose `X-Forwarded-For` is believed, separated by commas", list(&l.TrustedProxies, network)},
		{"USER_HEADER", "(none)", "header in which `TRUSTED_PROXIES` put the name of the person who has signed in, such as `X-Forwarded-User`; a request without a name is refused", text(&l.UserHeader, matching(`[A-Za-z0-9-]+`, "is the name of a header: letters, digits and hyphens"))},
		{"LOG_LEVEL", "info", "lowest level that is logged: `debug`, `info`, `warn` or `error`", level(&c.LogLevel)},
	}
}

// Load reads the environment. The error for a value that is not valid has the status cli.Usage. If
// args ask for help or the version, Load prints it and returns flag.ErrHelp.
func Load(args []string, getenv func(string) string, stdout io.Writer) (*Config, error) {
	var own []kafka.Variable
	for _, v := range Variables() {
		meaning := v.Meaning + " (default " + strings.Trim(v.Default, "()") + ")"
		own = append(own, kafka.Variable{Name: v.Name, Meaning: strings.ReplaceAll(meaning, "`", "")})
	}
	flags := flag.NewFlagSet("chatserver", flag.ContinueOnError)
	version := flags.Bool("version", false, "print the edition of this server")
	if err := cli.Parse(flags, args, stdout, manual, own...); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w; settings are environment variables, as in PORT=8001 go run ./chatserver", err)
	}
	if *version {
		fmt.Fprintln(stdout, "chatserver", ops.Edition())
		return nil, flag.ErrHelp
	}
	c := new(Config)
	if err := c.load(getenv); err != nil {
		return nil, cli.Fail(cli.Usage, err)
	}
	return c, nil
}

func (c *Config) load(getenv func(string) string) (err error) {
	if c.Cluster, err = kafka.FromEnv(getenv); err != nil {
		return err
	}
	c.Embedded = getenv("KAFKA_BROKER") == ""
	c.Where = "laptop"
	if getenv("KUBERNETES_SERVICE_HOST") != "" { // Kubernetes sets it in every container
		c.Where = "cluster"
	}
	lab := Variable{Name: "podname", set: text(&c.Pod, chat.CheckPod)} // the lab's spelling; POD_NAME takes precedence
	for _, v := range append([]Variable{lab}, c.variables()...) {
		value := strings.TrimSpace(getenv(v.Name))
		if value == "" && !strings.HasPrefix(v.Default, "(") {
			value = v.Default
		}
		if value == "" {
			continue
		}
		if err := v.set(value); err != nil {
			return fmt.Errorf("%s=%q: %w", v.Name, value, err)
		}
	}
	secure, _ := strconv.ParseBool(getenv("KAFKA_TLS")) // kafka.FromEnv has checked the value
	switch {                                            // faults of variables that are valid one by one
	case c.DataDir != "" && !c.Embedded:
		return fmt.Errorf("DATA_DIR=%q is for the embedded broker, which KAFKA_BROKER=%q turns off: unset one of them", c.DataDir, getenv("KAFKA_BROKER"))
	case c.LogBytes < logMessages*c.Limits.MessageBytes:
		return fmt.Errorf("LOG_BYTES=%d is too little for MESSAGE_BYTES=%d: valid is %d times as much and more", c.LogBytes, c.Limits.MessageBytes, logMessages)
	case c.Limits.UserHeader != "" && len(c.Limits.TrustedProxies) == 0:
		return fmt.Errorf("USER_HEADER=%q is believed from TRUSTED_PROXIES only: set both", c.Limits.UserHeader)
	case c.Embedded && (secure || getenv("KAFKA_SASL_MECHANISM") != ""):
		return errors.New("KAFKA_TLS and KAFKA_SASL_MECHANISM have no effect on the embedded broker: set KAFKA_BROKER too, or unset them")
	case c.Pod == "":
		if c.Pod, err = os.Hostname(); err == nil {
			err = chat.CheckPod(c.Pod + ":65535")
		}
		if err != nil {
			return fmt.Errorf("POD_NAME is not set, and the host's name %q cannot be used instead: %w", c.Pod, err)
		}
		c.unnamed = true
	}
	return nil
}

// SetPort sets the port that the server has, which PORT=0 leaves open. A pod with the host's name
// gets the port in its name too, since a host may have several pods.
func (c *Config) SetPort(port int) {
	if c.Port = port; c.unnamed && port != defaultPort {
		c.Pod += ":" + strconv.Itoa(port)
	}
}

// KafkaHere returns the address of the chat's Kafka for other programs on this laptop. It is "" in
// a cluster, where clients do not need it.
func (c *Config) KafkaHere() string {
	if c.Where != "laptop" {
		return ""
	}
	return strings.ReplaceAll(strings.Join(c.Cluster.Brokers, ","), "127.0.0.1", "localhost")
}

// Tell logs for the operator where the metrics are, and which settings need care.
func (c *Config) Tell(log *slog.Logger, metrics net.Addr) {
	log.Info("metrics and profiler", "url", "http://"+metrics.String()+"/metrics")
	if !c.Embedded && c.EmbeddedAddr != "" {
		log.Warn("EMBEDDED_ADDR has no effect: KAFKA_BROKER is set, so this server runs no broker")
	}
	if host, _, err := net.SplitHostPort(c.EmbeddedAddr); c.Embedded && err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		broker, port, _ := net.SplitHostPort(c.Cluster.Brokers[0])
		if net.ParseIP(broker).IsLoopback() { // the broker listens on every address of this machine
			broker = cmp.Or(ops.Outward(), broker)
		}
		log.Warn("everybody on this network can read and write in the embedded broker", "KAFKA_BROKER", net.JoinHostPort(broker, port))
	}
	if slices.Contains(c.Limits.Origins, "*") {
		log.Warn("ALLOWED_ORIGINS=* lets every web site write into the chat in the name of its visitors")
	}
	if err := c.Cluster.Insecure(); err != nil {
		log.Warn("the password for Kafka is not protected", "err", err)
	}
}

// ClientID names a part of this server to the brokers; what sarama does not allow in it is
// replaced.
func (c *Config) ClientID(part string) string {
	id := regexp.MustCompile(`[^A-Za-z0-9._-]`).ReplaceAllString("chatserver-"+part+"-"+c.Pod, "-")
	return id[:min(len(id), 200)]
}

// within returns a setter that stores a value from low to high in target. What describes the
// values.
func within[T cmp.Ordered](target *T, parse func(string) (T, error), what string, low, high T) func(string) error {
	return func(value string) error {
		v, err := parse(value)
		if err != nil || v < low || v > high {
			return fmt.Errorf("valid is %s from %v to %v", what, low, high)
		}
		*target = v
		return nil
	}
}

// text returns a setter that stores a value that check allows in target.
func text(target *string, check func(string) error) func(string) error {
	return func(value string) error {
		*target = value
		return check(value)
	}
}

// matching returns a check by a pattern. Valid describes the pattern in words.
func matching(pattern, valid string) func(string) error {
	return func(value string) error {
		if !regexp.MustCompile(`^(` + pattern + `)$`).MatchString(value) {
			return errors.New("valid " + valid)
		}
		return nil
	}
}

// list returns a setter that stores several values, with commas, in target.
func list[T any](target *[]T, parse func(string) (T, error)) func(string) error {
	return func(values string) error {
		for value := range strings.SplitSeq(values, ",") {
			value = strings.TrimSpace(value)
			v, err := parse(value)
			if err != nil {
				return fmt.Errorf("%q: %w", value, err)
			}
			*target = append(*target, v)
		}
		return nil
	}
}

// checkTopic allows fewer names than Kafka: the name of the pods' own topic is this one and
// ".pods".
func checkTopic(v string) error {
	err := kafka.CheckTopic(v, 240)
	if err != nil && kafka.CheckTopic(v, 249) == nil {
		err = fmt.Errorf("%w: the pods' own topic has a longer name, and Kafka's limit is 249", err)
	}
	return err
}

// address checks an address to listen on.
func address(v string) error {
	_, port, err := net.SplitHostPort(v)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return errors.New("valid is host:port, such as 127.0.0.1:9093, or :port for every address of this machine")
	}
	return nil
}

func site(v string) (string, error) {
	s, ok := room.Site(strings.TrimSuffix(v, "/"))
	if !ok && v != "*" {
		return "", errors.New("valid are web sites such as https://host and http://host:port, and *")
	}
	return cmp.Or(s, v), nil
}

func network(v string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(v)
	if addr, notAddr := netip.ParseAddr(v); notAddr == nil {
		addr = addr.Unmap()
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, errors.New("valid are addresses and networks such as 10.0.0.1, 10.0.0.0/8 and fd00::/8")
	}
	return prefix.Masked(), nil
}

func level(target *slog.Level) func(string) error {
	return func(v string) error {
		if target.UnmarshalText([]byte(v)) != nil {
			return errors.New("valid are debug, info, warn and error")
		}
		return nil
	}
}
