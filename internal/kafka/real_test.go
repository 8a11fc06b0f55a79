package kafka_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// issue writes a certificate that ends at a time from now to NAME.pem, and with its key to NAME.both.
// It is signed by an authority, or by itself.
func issue(dir, name string, by *tls.Certificate, end time.Duration, names []string, addrs ...net.IP) *tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: names, IPAddresses: addrs,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(end), IsCA: by == nil, BasicConstraintsValid: by == nil,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	if by == nil {
		by = &tls.Certificate{PrivateKey: key, Leaf: template}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, by.Leaf, &key.PublicKey, by.PrivateKey))
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
	for file, content := range map[string][]byte{name + ".pem": certPEM, name + ".both": append(keyPEM, certPEM...)} {
		must(0, os.WriteFile(filepath.Join(dir, file), content, 0o600))
	}
	return &tls.Certificate{PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}
}

// TestRealKafka connects to a real Kafka in every way that the environment can say, and in wrong
// ones; and what else only a real Kafka shows.
func TestRealKafka(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	local := net.IPv4(127, 0, 0, 1)
	ca := issue(dir, "ca", nil, time.Hour, nil)
	issue(dir, "broker", ca, time.Hour, []string{"kafka.test"}, local)
	issue(dir, "expired", ca, -time.Hour, []string{"kafka.test"}, local)
	issue(dir, "elsewhere", ca, time.Hour, []string{"kafka.test"})
	issue(dir, "client", ca, time.Hour, nil)
	issue(dir, "other-ca", nil, time.Hour, nil)

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
			"listener.name." + listener + ".ssl.keystore.location":   file(name + ".both"),
			"listener.name." + listener + ".ssl.truststore.type":     "PEM",
			"listener.name." + listener + ".ssl.truststore.location": file("ca.pem"),
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

	t.Run("compressed bombs", func(t *testing.T) { compressedBombs(t, broker.Addr(0)) }) // not parallel: memory is measured
	cluster := at(t, broker.Addr(0))
	chat := kafkatest.TopicName(t, broker.Addr(0)) + ".chat"
	within(t, `CREATE of topic "[^"]*_chat" is refused \(Kafka: .*collides with existing topic.*chat.*\)$`, func() any {
		_, first := cluster.EnsureTopic(t.Context(), chat, nil)
		_, second := cluster.EnsureTopic(t.Context(), strings.Replace(chat, ".", "_", 1), nil)
		return cmp.Or(first, second)
	})

	secure := "KAFKA_TLS=true;KAFKA_TLS_CA=" + file("ca.pem")
	mine := secure + ";KAFKA_TLS_CERT=" + file("client.both") + ";KAFKA_TLS_KEY=" + file("client.both")
	login := func(mechanism, password string) string {
		return "KAFKA_SASL_MECHANISM=" + mechanism + ";KAFKA_SASL_USERNAME=ann;KAFKA_SASL_PASSWORD=" + password
	}
	secureLogin := func(mechanism, password string) string { return secure + ";" + login(mechanism, password) }
	refused := func(mechanism, words string) string {
		return `^no Kafka broker at 127.0.0.1:\d+ \(it refuses the login of user "ann" by ` + mechanism + `: kafka.*` + words + `.*\): correct KAFKA_SASL_USERNAME`
	}
	for name, c := range map[string]struct {
		listener string // empty: the plain one
		vars     string
		want     string // empty: it works
	}{
		"a client certificate": {"MUTUAL", mine, ""},
		"a server name":        {"ELSEWHERE", secure + ";KAFKA_TLS_SERVER_NAME=kafka.test", ""},
		"PLAIN with TLS":       {"LOGIN", secureLogin("PLAIN", "secret"), ""},
		"SCRAM-SHA-256":        {"LOGIN", secureLogin("SCRAM-SHA-256", "secret"), ""},
		"SCRAM-SHA-512":        {"LOGIN", secureLogin("SCRAM-SHA-512", "secret"), ""},
		"PLAIN":                {"PLAINLOGIN", login("PLAIN", "secret"), ""},

		"wrong CA": {"TLS", secure + ";KAFKA_TLS_CA=" + file("other-ca.pem"),
			`^no Kafka broker at 127.0.0.1:\d+ \(its certificate is not accepted: x509: certificate signed by unknown authority.*\): set KAFKA_TLS_CA to the authority that signed it`},
		"expired certificate": {"EXPIRED", secure, `\(its certificate is not accepted: x509: certificate has expired`},
		"another name":        {"ELSEWHERE", secure, `cannot validate certificate for 127.0.0.1.*KAFKA_TLS_SERVER_NAME to a name in it$`},
		"no client certificate": {"MUTUAL", secure,
			`^no Kafka broker at 127.0.0.1:\d+ \(it refuses this client's certificate: .*\): set KAFKA_TLS_CERT and KAFKA_TLS_KEY to one that it accepts$`},
		"TLS on a plain port":             {"", secure, `\(it closes the connection\): the broker may speak plain text on this port \(unset KAFKA_TLS\), or`},
		"plain text on a TLS port":        {"TLS", "", `\(it closes the connection\): KAFKA_TLS or KAFKA_SASL_MECHANISM may be missing or wrong$`},
		"wrong password, PLAIN":           {"LOGIN", secureLogin("PLAIN", "x"), refused("PLAIN", "SASL Authentication failed")},
		"wrong password, SCRAM-SHA-512":   {"LOGIN", secureLogin("SCRAM-SHA-512", "x"), refused("SCRAM-SHA-512", "")},
		"a mechanism that is not offered": {"PLAINLOGIN", login("SCRAM-SHA-512", "secret"), refused("SCRAM-SHA-512", "not support")},
		"a login where none is wanted":    {"", login("PLAIN", "secret"), refused("PLAIN", "not valid given the current SASL state")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := broker.Addr(0)
			if c.listener != "" {
				addr = broker.ListenerAddrs(c.listener)
			}
			cluster := at(t, addr, c.vars)
			within(t, cmp.Or(c.want, "^<nil>$"), func() any { // on a busy machine a time-out may come first
				if err := cluster.Check(t.Context()); err != nil || c.want != "" {
					return err
				}
				_, failed := cluster.EnsureTopic(t.Context(), "secure", nil)
				producer, err := sarama.NewSyncProducer(cluster.Brokers, cluster.Config(t.Context(), "test"))
				if err = cmp.Or(failed, err); err != nil {
					return err
				}
				defer producer.Close()
				_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: "secure", Value: sarama.StringEncoder("hello")})
				return err
			})
		})
	}
}

// A record of a few kilobytes that becomes 64 MiB costs a reader no memory, and everybody reads the
// same sentence in its place. What is compressed and small is read as it was written.
func compressedBombs(t *testing.T, kafkaAt string) {
	for _, codec := range []sarama.CompressionCodec{sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD} {
		t.Run(codec.String(), func(t *testing.T) {
			size := 64 << 20
			if codec == sarama.CompressionSnappy { // to a 21st at best, and Kafka takes 1 MiB
				size = 17 << 20
			}
			cluster := at(t, kafkaAt)
			topic := kafkatest.Topic(t, kafkaAt)
			config := cluster.Config(t.Context(), "test")
			config.Producer.Compression = codec
			config.Producer.MaxMessageBytes = 1 << 30
			config.Producer.Retry.Max = 100 // the leader is new
			config.Producer.Timeout, config.Net.ReadTimeout = 50*time.Second, time.Minute
			producer, err := sarama.NewSyncProducer(cluster.Brokers, config)
			if err != nil {
				t.Fatal(err)
			}
			defer producer.Close()
			for _, value := range []string{"before", strings.Repeat("a", size), strings.Repeat("b", 1000), "after"} {
				if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}); err != nil {
					t.Fatal(err)
				}
			}
			want := []string{"before", "(offset 1 was left out: more than 16 MiB when decompressed)", strings.Repeat("b", 1000), "after"}

			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			s := read(t, cluster, topic)
			expect(t, s, want...)
			runtime.ReadMemStats(&after)
			// 16 MiB are decompressed into a buffer that doubles; a bomb that is decompressed whole takes 128 and more.
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 112 {
				t.Errorf("reading took %d MiB of memory", took)
			}
		})
	}
}
