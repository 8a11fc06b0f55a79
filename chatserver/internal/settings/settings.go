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
	unnamed        bool // Pod is the host's name
}

const manual = `chatserver is a chat in the browser over a Kafka topic. Settings are environment variables.

    go run ./chatserver                                           a chat with a Kafka broker inside
    PORT=8001 KAFKA_BROKER=localhost:9092 go run ./chatserver     a second pod of the same chat
`

const (
	defaultPort = 8000
	// logMessages is how many messages of the largest size the frame log must hold, in both encodings.
	logMessages = 8
	// largestMessage leaves room for the headers in the 1,048,588 bytes of a record batch that Kafka
	// takes by default (message.max.bytes).
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
	return []Variable{
		{"PORT", strconv.Itoa(defaultPort), "port of the page and the websocket; 0 takes a free one", to(&c.Port, whole(0, 65535))},
		{"TOPIC", kafka.DefaultTopic, "topic of the chat", to(&c.Topic, topic)},
		{"POD_NAME", "(the variable `podname`, else the host's name, with the port if that is not 8000)", "name of this server, shown in the page", to(&c.Pod, podName)},
		{"EMBEDDED_ADDR", "127.0.0.1:9092", "address of the embedded broker, which runs if `KAFKA_BROKER` is not set", to(&c.EmbeddedAddr, address)},
		{"DATA_DIR", "(none: in memory)", "folder for the embedded broker's records", to(&c.DataDir, text)},
		{"LOG_BYTES", "16777216", "memory of the frame log, in bytes; all clients share it", to(&c.LogBytes, whole(64<<10, 1<<40))},
		{"PUBLISH_TIMEOUT", "10s", "how long a message of a client without `chat.v1` may wait for Kafka; then the websocket is closed", to(&c.PublishTimeout, duration)},
		{"DRAIN_TIMEOUT", "30s", "how long a stopping server may take to close its websockets", to(&c.DrainTimeout, duration)},
		{"ADMIN_ADDR", "(127.0.0.1:9090, or a free port)", "address of `/metrics` and `/debug/pprof/`", to(&c.AdminAddr, address)},
		{"MESSAGE_BYTES", strconv.Itoa(chat.MaxText), "longest message of a client, in bytes", to(&l.MessageBytes, whole(1, largestMessage))},
		{"MESSAGE_RATE", "20", "messages a second that a connection may send, after a burst of 5 times as many; faster ones wait", to(&l.MessageRate, whole(1, 1_000_000))},
		{"BYTE_RATE", "16384", "bytes of messages a second that a connection may send, after a burst of 16 times as many; faster ones wait", to(&l.ByteRate, whole(1, 1<<30))},
		{"MAX_CONNECTIONS", "20000", "most websockets at once; the limit of open files may allow fewer, and with 0 is the only limit", to(&l.Connections, whole(0, many))},
		{"MAX_CONNECTIONS_PER_ADDRESS", "0", "most websockets at once from one address; 0 is no limit", to(&l.PerAddress, whole(0, many))},
		{"ALLOWED_HOSTS", "(none)", "names of this server, besides IP addresses, `localhost` and the machine's own names, separated by commas; `*` allows all", to(&l.Hosts, list(host))},
		{"ALLOWED_ORIGINS", "(none)", "web sites whose pages may connect, besides the server's own, separated by commas; `*` allows all", to(&l.Origins, list(site))},
		{"TRUSTED_PROXIES", "(none)", "addresses and networks of proxies whose `X-Forwarded-For` is believed, separated by commas", to(&l.TrustedProxies, list(network))},
		{"USER_HEADER", "(none)", "header in which `TRUSTED_PROXIES` put the name of the person who has signed in, such as `X-Forwarded-User`; a request without a name is refused", to(&l.UserHeader, header)},
		{"LOG_LEVEL", "info", "lowest level that is logged: `debug`, `info`, `warn` or `error`", to(&c.LogLevel, level)},
	}
}

// Load reads the environment. Errors of that mean cli.Usage. If args ask for something else, which is printed, the
// error is flag.ErrHelp.
func Load(args []string, getenv func(string) string, stdout io.Writer) (*Config, error) {
	if err := answer(args, stdout); err != nil {
		return nil, err
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
	c.Cluster.BrokerInside = true // while KAFKA_BROKER is unset
	c.Where = "laptop"
	if getenv("KUBERNETES_SERVICE_HOST") != "" { // Kubernetes sets it in every container
		c.Where = "cluster"
	}
	lab := Variable{Name: "podname", Default: "()", set: to(&c.Pod, podName)} // how the lab spells POD_NAME, which goes before it
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
	switch {                                            // what is wrong with variables that are valid one by one
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
			return fmt.Errorf("POD_NAME is not set, and the host's name %q cannot stand in for it: %w", c.Pod, err)
		}
		c.unnamed = true
	}
	return nil
}

// SetPort is for the port that the server has, which PORT=0 leaves open. A pod that has the host's name has the port in
// it too, since there may be several on a host.
func (c *Config) SetPort(port int) {
	if c.Port = port; c.unnamed && port != defaultPort {
		c.Pod += ":" + strconv.Itoa(port)
	}
}

// KafkaHere is where other programs on this laptop find the chat's Kafka; "" in a cluster, whose
// clients need not know.
func (c *Config) KafkaHere() string {
	if c.Where != "laptop" {
		return ""
	}
	return strings.ReplaceAll(strings.Join(c.Cluster.Brokers, ","), "127.0.0.1", "localhost")
}

// answer prints what the flags -h and -version ask for, and returns flag.ErrHelp then.
func answer(args []string, stdout io.Writer) error {
	var own []kafka.Variable
	for _, v := range Variables() {
		meaning := v.Meaning + " (default " + strings.Trim(v.Default, "()") + ")"
		own = append(own, kafka.Variable{Name: v.Name, Meaning: strings.ReplaceAll(meaning, "`", "")})
	}
	flags := flag.NewFlagSet("chatserver", flag.ContinueOnError)
	version := flags.Bool("version", false, "print the edition of this server")
	err := cli.Parse(flags, args, stdout, manual, own...)
	switch {
	case err == nil && *version:
		fmt.Fprintln(stdout, "chatserver", ops.Edition())
		return flag.ErrHelp
	case err != nil && !errors.Is(err, flag.ErrHelp):
		return fmt.Errorf("%w; settings are environment variables, as in PORT=8001 go run ./chatserver", err)
	}
	return err
}

// Tell says in the log what an operator should know: where the metrics are, and which settings need care.
func (c *Config) Tell(log *slog.Logger, metrics net.Addr) {
	log.Info("metrics and profiler", "url", "http://"+metrics.String()+"/metrics")
	if host, _, _ := net.SplitHostPort(c.EmbeddedAddr); c.Embedded && (host == "" || net.ParseIP(host).IsUnspecified()) {
		_, port, _ := net.SplitHostPort(c.Cluster.Brokers[0])
		log.Warn("everybody on this network can read and write in the embedded broker", "KAFKA_BROKER", net.JoinHostPort(cmp.Or(ops.Outward(), "localhost"), port))
	}
	if slices.Contains(c.Limits.Origins, "*") {
		log.Warn("ALLOWED_ORIGINS=* lets every web site chat in the name of whoever visits it")
	}
	if err := c.Cluster.Insecure(); err != nil {
		log.Warn("the way to Kafka is not protected", "err", err)
	}
}

// ClientID names a part of this server to the brokers; what sarama does not allow in it is replaced.
func (c *Config) ClientID(part string) string {
	id := regexp.MustCompile(`[^A-Za-z0-9._-]`).ReplaceAllString("chatserver-"+part+"-"+c.Pod, "-")
	return id[:min(len(id), 200)]
}

// to returns what stores a value that parse allows in target.
func to[T any](target *T, parse func(string) (T, error)) func(string) error {
	return func(value string) (err error) {
		*target, err = parse(value)
		return err
	}
}

func whole(low, high int) func(string) (int, error) {
	return func(v string) (int, error) {
		n, err := strconv.Atoi(v)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("valid is a whole number from %d to %d", low, high)
		}
		return n, nil
	}
}

func duration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Second || d > time.Hour {
		return 0, errors.New("valid is a time from 1s to 1h, such as 10s or 1m30s")
	}
	return d, nil
}

// list parses each of several, with commas.
func list[T any](parse func(string) (T, error)) func(string) ([]T, error) {
	return func(v string) (all []T, err error) {
		for entry := range strings.SplitSeq(v, ",") {
			entry = strings.TrimSpace(entry)
			one, err := parse(entry)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", entry, err)
			}
			all = append(all, one)
		}
		return all, nil
	}
}

func text(v string) (string, error) { return v, nil }

// topic is shorter than Kafka allows: the name of the pods' own topic is this one and ".pods".
func topic(v string) (string, error) {
	err := kafka.CheckTopic(v, 240)
	if err != nil && kafka.CheckTopic(v, 249) == nil {
		err = fmt.Errorf("%w: the pods' own topic has a longer name, and Kafka's limit is 249", err)
	}
	return v, err
}

func address(v string) (string, error) {
	if _, _, err := net.SplitHostPort(v); err != nil {
		return "", errors.New("valid are host:port and :port")
	}
	return v, nil
}

func podName(v string) (string, error) { return v, chat.CheckPod(v) }

func host(v string) (string, error) {
	if v = strings.ToLower(v); !regexp.MustCompile(`^(\*|[a-z0-9._-]+)$`).MatchString(v) {
		return "", errors.New("valid are names such as chat.example.com, without a port, and *")
	}
	return v, nil
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

func header(v string) (string, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString(v) {
		return "", errors.New("valid is the name of a header: letters, digits and hyphens")
	}
	return v, nil
}

func level(v string) (level slog.Level, err error) {
	if level.UnmarshalText([]byte(v)) != nil {
		err = errors.New("valid are debug, info, warn and error")
	}
	return level, err
}
