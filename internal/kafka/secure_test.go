package kafka_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/realkafka"
)

// An authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.file, _, a.cert, a.key = a.issue(dir, name, time.Hour, &x509.Certificate{IsCA: true, BasicConstraintsValid: true})
	return a
}

// issue makes a certificate that ends at a time from now, signed by a, or by itself if a has none.
// It returns the PEM files of the certificate and of its key.
func (a *authority) issue(dir, name string, end time.Duration, template *x509.Certificate) (certFile, keyFile string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(end)
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	for file, content := range map[string][]byte{
		certFile:                         certPEM,
		keyFile:                          keyPEM,
		filepath.Join(dir, name+".both"): bytes.Join([][]byte{keyPEM, certPEM}, nil),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return certFile, keyFile, cert, key
}

// TestSecurity connects to a real Kafka in every way that the environment can say, and in wrong
// ones.
func TestSecurity(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	other := newAuthority(t, dir, "other-ca")
	local := func() *x509.Certificate {
		return &x509.Certificate{DNSNames: []string{"kafka.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	}
	ca.issue(dir, "broker", time.Hour, local())
	ca.issue(dir, "expired", -time.Hour, local())
	ca.issue(dir, "elsewhere", time.Hour, &x509.Certificate{DNSNames: []string{"kafka.test"}})
	cert, key, _, _ := ca.issue(dir, "client", time.Hour, &x509.Certificate{})
	strangerCert, strangerKey, _, _ := other.issue(dir, "stranger", time.Hour, &x509.Certificate{})

	properties := map[string]string{
		"listener.name.mutual.ssl.client.auth":               "required",
		"listener.name.login.sasl.enabled.mechanisms":        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.login.plain.sasl.jaas.config":         `org.apache.kafka.common.security.plain.PlainLoginModule required user_ann="secret";`,
		"listener.name.login.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.login.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.plainlogin.sasl.enabled.mechanisms":   "PLAIN",
		"listener.name.plainlogin.plain.sasl.jaas.config":    `org.apache.kafka.common.security.plain.PlainLoginModule required user_ann="secret";`,
	}
	listeners := map[string]string{
		"TLS": "SSL", "MUTUAL": "SSL", "EXPIRED": "SSL", "ELSEWHERE": "SSL", "LOGIN": "SASL_SSL", "PLAINLOGIN": "SASL_PLAINTEXT",
	}
	for listener, name := range map[string]string{
		"tls": "broker", "mutual": "broker", "expired": "expired", "elsewhere": "elsewhere", "login": "broker",
	} {
		maps.Copy(properties, map[string]string{
			"listener.name." + listener + ".ssl.keystore.type":       "PEM",
			"listener.name." + listener + ".ssl.keystore.location":   filepath.Join(dir, name+".both"),
			"listener.name." + listener + ".ssl.truststore.type":     "PEM",
			"listener.name." + listener + ".ssl.truststore.location": ca.file,
		})
	}
	broker := realkafka.Start(t, realkafka.Options{
		Listeners:  listeners,
		Properties: properties,
		Format: []string{
			"--add-scram", "SCRAM-SHA-256=[name=ann,password=secret]",
			"--add-scram", "SCRAM-SHA-512=[name=ann,password=secret]",
		},
	})

	secure := map[string]string{"KAFKA_TLS": "true", "KAFKA_TLS_CA": ca.file}
	login := func(mechanism, password string) map[string]string {
		return map[string]string{"KAFKA_SASL_MECHANISM": mechanism, "KAFKA_SASL_USERNAME": "ann", "KAFKA_SASL_PASSWORD": password}
	}
	for _, c := range []struct {
		name     string
		listener string // empty: the plain one
		vars     []map[string]string
		want     string // empty: it works
	}{
		{"TLS", "TLS", []map[string]string{secure}, ""},
		{"a client certificate", "MUTUAL", []map[string]string{secure, {"KAFKA_TLS_CERT": cert, "KAFKA_TLS_KEY": key}}, ""},
		{"a server name", "ELSEWHERE", []map[string]string{secure, {"KAFKA_TLS_SERVER_NAME": "kafka.test"}}, ""},
		{"PLAIN with TLS", "LOGIN", []map[string]string{secure, login("PLAIN", "secret")}, ""},
		{"SCRAM-SHA-256", "LOGIN", []map[string]string{secure, login("SCRAM-SHA-256", "secret")}, ""},
		{"SCRAM-SHA-512", "LOGIN", []map[string]string{secure, login("SCRAM-SHA-512", "secret")}, ""},
		{"PLAIN", "PLAINLOGIN", []map[string]string{login("PLAIN", "secret")}, ""},

		{"wrong CA", "TLS", []map[string]string{secure, {"KAFKA_TLS_CA": other.file}},
			`^the certificate of the broker at 127.0.0.1:\d+ is not accepted \(x509: certificate signed by unknown authority.*\): KAFKA_TLS_CA is to name who signed it`},
		{"the system's CAs", "TLS", []map[string]string{{"KAFKA_TLS": "true"}}, `certificate signed by unknown authority.*KAFKA_TLS_CA`},
		{"expired certificate", "EXPIRED", []map[string]string{secure}, `the broker at 127.0.0.1:\d+ is not accepted \(x509: certificate has expired`},
		{"another name", "ELSEWHERE", []map[string]string{secure}, `cannot validate certificate for 127.0.0.1.*KAFKA_TLS_SERVER_NAME a name in it$`},
		{"no client certificate", "MUTUAL", []map[string]string{secure},
			`^the broker at 127.0.0.1:\d+ refuses this client's certificate \(.*\): set KAFKA_TLS_CERT and KAFKA_TLS_KEY to one that it accepts$`},
		{"a stranger's certificate", "MUTUAL", []map[string]string{secure, {"KAFKA_TLS_CERT": strangerCert, "KAFKA_TLS_KEY": strangerKey}},
			`^the broker at 127.0.0.1:\d+ refuses this client's certificate`},
		{"TLS on a plain port", "", []map[string]string{secure},
			`^the broker at 127.0.0.1:\d+ does not answer in TLS on this port \(.*\): unset KAFKA_TLS, or use its TLS port$`},
		{"plain text on a TLS port", "TLS", nil,
			`^the broker at 127.0.0.1:\d+ answers in TLS on this port: set KAFKA_TLS=true, or use its plain port$`},
		{"wrong password, PLAIN", "LOGIN", []map[string]string{secure, login("PLAIN", "x")},
			`^the broker at 127.0.0.1:\d+ refuses user "ann" \(PLAIN\): wrong KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD$`},
		{"wrong password, SCRAM-SHA-256", "LOGIN", []map[string]string{secure, login("SCRAM-SHA-256", "x")}, `refuses user "ann" \(SCRAM-SHA-256\): wrong`},
		{"wrong password, SCRAM-SHA-512", "LOGIN", []map[string]string{secure, login("SCRAM-SHA-512", "x")}, `refuses user "ann" \(SCRAM-SHA-512\): wrong`},
		{"a mechanism that is not offered", "PLAINLOGIN", []map[string]string{login("SCRAM-SHA-512", "secret")},
			`^the broker at 127.0.0.1:\d+ does not offer KAFKA_SASL_MECHANISM=SCRAM-SHA-512$`},
		{"a login where none is wanted", "", []map[string]string{login("PLAIN", "secret")},
			`^the broker at 127.0.0.1:\d+ wants no login on this port: unset KAFKA_SASL_MECHANISM, or use its SASL port$`},
		{"no login where one is wanted", "PLAINLOGIN", nil,
			`^no Kafka broker at 127.0.0.1:\d+ \(it closes the connection; KAFKA_TLS or KAFKA_SASL_MECHANISM may be missing or wrong\)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := broker.Addr(0)
			if c.listener != "" {
				addr = broker.ListenerAddrs(c.listener)
			}
			vars := map[string]string{"KAFKA_BROKER": addr}
			for _, v := range c.vars {
				maps.Copy(vars, v)
			}
			kafka := cluster(t, vars)
			err := kafka.Check(t.Context())
			if c.want != "" {
				wantError(t, err, c.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := kafka.EnsureTopic(t.Context(), "secure", nil); err != nil {
				t.Fatal(err)
			}
			producer, err := sarama.NewSyncProducer(kafka.Brokers, kafka.Config(t.Context(), "test"))
			if err != nil {
				t.Fatal(err)
			}
			defer producer.Close()
			if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "secure", Value: sarama.StringEncoder("hello")}); err != nil {
				t.Error(err)
			}
		})
	}
}
