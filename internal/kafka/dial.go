package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"kafkachat/internal/wire"
)

// A dialer makes all connections of one client. They end with its context.
type dialer struct {
	ctx     context.Context
	cluster *Cluster
	// Told of faults, besides whoever dials or reads: sarama swallows most errors of connections.
	warn  func(error)
	watch wire.Watch // of the connections' fetches; may be nil

	mu sync.Mutex // guards the following; never held during I/O
	// open holds every connection from before its first use until it is closed. nil: the context
	// has ended.
	open map[*conn]struct{}
	// The bootstrap broker that was reached last, for the sentence about a name that it advertises.
	bootstrap   string
	bootstrapIP string
}

func newDialer(ctx context.Context, cluster *Cluster, warn func(error), watch wire.Watch) *dialer {
	d := &dialer{ctx: ctx, cluster: cluster, warn: warn, watch: watch, open: make(map[*conn]struct{})}
	context.AfterFunc(ctx, d.abort)
	return d
}

// abort closes every connection and lets nothing that is still in its send buffer out: whoever
// ended the context decides on his own what happens to a request that was under way.
func (d *dialer) abort() {
	d.mu.Lock()
	open := d.open
	d.open = nil
	d.mu.Unlock()
	for c := range open {
		c.raw.SetLinger(0)
		c.raw.Close() // not c.Close: that of TLS waits to say goodbye
	}
}

// Dial connects to a broker, including the TLS handshake: sarama's own has no deadline.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	c, err := d.dial(network, addr)
	if f := new(fault); errors.As(err, &f) {
		d.warn(f)
	}
	return c, err
}

func (d *dialer) dial(network, addr string) (net.Conn, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(d.ctx, network, addr)
	if err != nil {
		return nil, d.explain(err, addr)
	}
	c := &conn{Conn: raw, raw: raw.(*net.TCPConn), dialer: d, addr: addr, answers: wire.Answers{Watch: d.watch}}
	if !d.register(c) {
		raw.Close()
		return nil, d.ctx.Err()
	}
	if d.cluster.tls != nil {
		config := d.cluster.tls.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(addr)
		}
		secure := tls.Client(raw, config)
		raw.SetDeadline(time.Now().Add(dialTimeout))
		if err := secure.HandshakeContext(d.ctx); err != nil {
			c.Close()
			return nil, explainTLS(err, addr, config.ServerName)
		}
		raw.SetDeadline(time.Time{})
		c.Conn = secure
	}
	return c, nil
}

// register makes c end with the context; it says false if that has ended.
func (d *dialer) register(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		return false
	}
	d.open[c] = struct{}{}
	if slices.Contains(d.cluster.Brokers, c.addr) {
		d.bootstrap = c.addr
		d.bootstrapIP, _, _ = net.SplitHostPort(c.raw.RemoteAddr().String())
	}
	return true
}

// explain says what to do about a name that cannot be resolved; other errors are returned as they
// are.
func (d *dialer) explain(err error, addr string) error {
	if unresolved := new(net.DNSError); !errors.As(err, &unresolved) || d.ctx.Err() != nil {
		return err
	}
	hosts := "/etc/hosts"
	if runtime.GOOS == "windows" {
		hosts = `C:\Windows\System32\drivers\etc\hosts`
	}
	host, _, _ := net.SplitHostPort(addr)
	configured := slices.Contains(d.cluster.Brokers, addr)
	d.mu.Lock()
	bootstrap, ip := d.bootstrap, d.bootstrapIP
	d.mu.Unlock()
	switch {
	case configured && d.cluster.inPod:
		return newFault(err, "the name %q of the broker %s is not known in this cluster: KAFKA_BROKER must name a Service of it (kubectl get services)", host, addr)
	case d.cluster.inPod:
		return newFault(err, "the broker at %s advertises itself as %s, a name that is not known in this cluster: its advertised.listeners must name a Service of it",
			bootstrap, addr)
	case configured:
		return newFault(err, "this machine cannot resolve the name %q of the broker %s: correct KAFKA_BROKER, or add the line \"127.0.0.1 %s\" to %s (with the broker's address, if it runs on another machine)",
			host, addr, host, hosts)
	}
	return newFault(err, "the broker at %s advertises itself as %s, and this machine cannot resolve the name %q: add the line \"%s %s\" to %s",
		bootstrap, addr, host, ip, host, hosts)
}

func explainTLS(err error, addr, name string) error {
	var (
		record    tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		hostname  x509.HostnameError
	)
	switch {
	case errors.As(err, &record), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return newFault(err, "the broker at %s does not answer in TLS on this port: unset KAFKA_TLS, or use its TLS port", addr)
	case errors.As(err, &authority):
		return newFault(err, "the certificate of the broker at %s is not signed by an authority that this client knows: set KAFKA_TLS_CA to the authority's certificate", addr)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return newFault(err, "the certificate of the broker at %s is valid from %s to %s only: the broker needs a new one",
			addr, invalid.Cert.NotBefore.Format(time.DateTime), invalid.Cert.NotAfter.Format(time.DateTime))
	case errors.As(err, &hostname):
		return newFault(err, "the certificate of the broker at %s is not for the name %q but for %s: set KAFKA_TLS_SERVER_NAME to a name in it",
			addr, name, names(hostname.Certificate))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return newFault(err, "the broker at %s accepts connections but answers no TLS handshake within %v", addr, dialTimeout)
	}
	return newFault(err, "no TLS connection with the broker at %s: %v", addr, err)
}

// names lists the names that a certificate is for.
func names(certificate *x509.Certificate) string {
	all := slices.Clone(certificate.DNSNames)
	for _, ip := range certificate.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// A conn leaves its dialer when it is closed. Only sarama's goroutine that receives answers reads
// from it.
type conn struct {
	net.Conn // raw, or TLS on top of it
	raw      *net.TCPConn
	dialer   *dialer
	addr     string
	answers  wire.Answers
	answered bool // owned by the reader
}

func (c *conn) Write(p []byte) (int, error) {
	c.answers.Sent(p)
	return c.Conn.Write(p)
}

// Read changes answers as package wire does, and recognizes two faults that only show in the first
// bytes of the first one.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.answers.Read(c.Conn, p, func() { c.raw.SetReadDeadline(time.Now().Add(ioTimeout)) })
	if c.answered {
		return n, err
	}
	c.answered = n > 0
	var f *fault
	var alert *net.OpError
	switch {
	// An answer starts with its length, which is far below 0x15030000; a TLS alert (RFC 8446, 5.1)
	// starts with these.
	case c.Conn == net.Conn(c.raw) && n >= 2 && p[0] == 0x15 && p[1] == 0x03:
		f = newFault(nil, "the broker at %s answers in TLS on this port: set KAFKA_TLS=true, or use its plain port", c.addr)
	// With TLS 1.3 the broker judges the client's certificate after the handshake.
	case errors.As(err, &alert) && alert.Op == "remote error":
		f = newFault(err, "the broker at %s refuses this client's certificate (%v): set KAFKA_TLS_CERT and KAFKA_TLS_KEY to one that it accepts", c.addr, alert.Err)
	default:
		return n, err
	}
	c.dialer.warn(f)
	return 0, f
}

func (c *conn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.open, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}
