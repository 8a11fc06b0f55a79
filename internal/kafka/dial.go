package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"

	"kafkachat/internal/wire"
)

// A dialer makes all connections of one client. They end with its context.
type dialer struct {
	ctx     context.Context
	cluster *Cluster
}

// Dial connects to a broker, including the TLS handshake: sarama's own has no deadline.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: dialTimeout}
	dial := plain.DialContext
	if d.cluster.tls != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: d.cluster.tls}).DialContext
	}
	made, err := dial(d.ctx, network, addr)
	if err != nil {
		return nil, d.explain(err, addr)
	}
	c := &conn{Conn: wire.NewConn(made, ioTimeout), dialer: d, addr: addr}
	raw := made
	if secure, ok := made.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	c.leave = context.AfterFunc(d.ctx, func() {
		// Nothing that is still in its send buffer goes out: whoever ended the context decides on his
		// own what happens to a request that was under way.
		raw.(*net.TCPConn).SetLinger(0)
		raw.Close() // closing TLS waits to say goodbye
	})
	return c, nil
}

// explain says what to do about an error of connecting that a person has to mend.
func (d *dialer) explain(err error, addr string) error {
	if d.ctx.Err() != nil {
		return err
	}
	if unresolved := new(net.DNSError); errors.As(err, &unresolved) {
		from := "a broker's advertised.listeners"
		if slices.Contains(d.cluster.Brokers, addr) {
			from = "KAFKA_BROKER"
		}
		host, _, _ := net.SplitHostPort(addr)
		if d.cluster.inPod {
			return newFault(err, "%s says %s, and the name %q is not known in this cluster: it must be that of a Service (kubectl get services)",
				from, addr, host)
		}
		return newFault(err, "%s says %s, and this machine cannot resolve the name %q: correct it, or add the line \"127.0.0.1 %s\" "+
			"(with the broker's address, if it runs on another machine) to %s", from, addr, host, host, hostsFile)
	}
	if refused := new(net.OpError); d.cluster.tls == nil || errors.As(err, &refused) && refused.Op == "dial" {
		return err
	}
	return explainTLS(err, addr)
}

const hostsFile = `/etc/hosts (Windows: C:\Windows\System32\drivers\etc\hosts)`

func explainTLS(err error, addr string) error {
	var alert *net.OpError
	switch wrong := new(tls.CertificateVerificationError); {
	case errors.As(err, &wrong):
		return newFault(err, "the certificate of the broker at %s is not accepted (%v): KAFKA_TLS_CA is to name who signed it, and KAFKA_TLS_SERVER_NAME a name in it",
			addr, wrong.Err)
	case errors.As(err, &alert) && alert.Op == "remote error":
		return newFault(err, "the broker at %s refuses this client's certificate (%v): set KAFKA_TLS_CERT and KAFKA_TLS_KEY to one that it accepts", addr, alert.Err)
	}
	return newFault(err, "the broker at %s does not answer in TLS on this port (%v): unset KAFKA_TLS, or use its TLS port", addr, err)
}

// A conn ends with its dialer's context. Only sarama's goroutine that receives answers reads from
// it.
type conn struct {
	*wire.Conn
	dialer   *dialer
	addr     string
	leave    func() bool // the context
	answered bool        // owned by the reader
}

// Read recognizes faults that only show in the first bytes of the first answer.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.answered || c.dialer.ctx.Err() != nil {
		return n, err
	}
	c.answered = n > 0
	var alert *net.OpError
	switch {
	// An answer starts with its length, which is far below 0x15030000; a TLS alert (RFC 8446, 5.1)
	// starts with these.
	case c.dialer.cluster.tls == nil && n >= 2 && p[0] == 0x15 && p[1] == 0x03:
		return 0, newFault(nil, "the broker at %s answers in TLS on this port: set KAFKA_TLS=true, or use its plain port", c.addr)
	// With TLS 1.3 the broker judges the client's certificate after the handshake.
	case errors.As(err, &alert) && alert.Op == "remote error":
		return 0, explainTLS(err, c.addr)
	}
	return n, err
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}
