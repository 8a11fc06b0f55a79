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
	"math/big"
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

// issue writes a certificate, or an authority's, to NAME.pem, and with its key to NAME.both.
func issue(dir, name string, by *tls.Certificate) *tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{"kafka.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: by == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
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

// Every way to connect that the environment can say, wrong ones, and what only a real Kafka shows.
func TestRealKafka(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := issue(dir, "ca", nil)
	issue(dir, "broker", ca)
	issue(dir, "client", ca)
	const plain, scram = "org.apache.kafka.common.security.plain.PlainLoginModule", "org.apache.kafka.common.security.scram.ScramLoginModule"
	broker := realkafka.Start(t, realkafka.Options{
		Listeners: map[string]string{"MUTUAL": "SSL", "LOGIN": "SASL_SSL", "PLAINLOGIN": "SASL_PLAINTEXT"},
		Properties: map[string]string{
			"ssl.keystore.type":                                  "PEM",
			"ssl.keystore.location":                              file("broker.both"),
			"ssl.truststore.type":                                "PEM",
			"ssl.truststore.location":                            file("ca.pem"),
			"listener.name.mutual.ssl.client.auth":               "required",
			"listener.name.login.sasl.enabled.mechanisms":        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
			"listener.name.login.plain.sasl.jaas.config":         plain + ` required user_ann="secret";`,
			"listener.name.login.scram-sha-256.sasl.jaas.config": scram + " required;",
			"listener.name.login.scram-sha-512.sasl.jaas.config": scram + " required;",
			"listener.name.plainlogin.sasl.enabled.mechanisms":   "PLAIN",
			"listener.name.plainlogin.plain.sasl.jaas.config":    plain + ` required user_ann="secret";`,
		},
		Format: []string{"--add-scram", "SCRAM-SHA-256=[name=ann,password=secret]", "--add-scram", "SCRAM-SHA-512=[name=ann,password=secret]"},
	})

	t.Run("compressed bombs", func(t *testing.T) { compressedBombs(t, broker.Addr(0)) }) // not parallel: memory is measured
	cluster := at(t, broker.Addr(0))
	chat := kafkatest.TopicName(t, broker.Addr(0)) + ".chat"
	within(t, `CREATE of topic "[^"]*_chat" is refused \(Kafka: .*collides with existing topic.*chat.*\)$`, func() any {
		_, first := cluster.EnsureTopic(t.Context(), chat, nil)
		_, second := cluster.EnsureTopic(t.Context(), strings.Replace(chat, ".", "_", 1), nil)
		return cmp.Or(first, second)
	})

	secure := "KAFKA_TLS=true;KAFKA_TLS_SERVER_NAME=kafka.test;KAFKA_TLS_CA=" + file("ca.pem")
	mine := secure + ";KAFKA_TLS_CERT=" + file("client.both") + ";KAFKA_TLS_KEY=" + file("client.both")
	login := func(mechanism, password string) string {
		return "KAFKA_SASL_MECHANISM=" + mechanism + ";KAFKA_SASL_USERNAME=ann;KAFKA_SASL_PASSWORD=" + password
	}
	secureLogin := func(mechanism, password string) string { return secure + ";" + login(mechanism, password) }
	refused := func(mechanism, words string) string {
		return `^no Kafka broker at 127.0.0.1:\d+ \(it refuses the login of user "ann" by ` + mechanism +
			`: kafka.*` + words + `.*\): correct KAFKA_SASL_USERNAME`
	}
	for name, c := range map[string]struct{ listener, vars, want string }{ // want is empty: it works
		"a client certificate": {"MUTUAL", mine, ""},
		"PLAIN with TLS":       {"LOGIN", secureLogin("PLAIN", "secret"), ""},
		"SCRAM-SHA-256":        {"LOGIN", secureLogin("SCRAM-SHA-256", "secret"), ""},
		"SCRAM-SHA-512":        {"LOGIN", secureLogin("SCRAM-SHA-512", "secret"), ""},
		"PLAIN":                {"PLAINLOGIN", login("PLAIN", "secret"), ""},

		"wrong CA": {"LOGIN", secure + ";KAFKA_TLS_CA=" + file("client.pem"), `^no Kafka broker at 127.0.0.1:\d+ ` +
			`\(its certificate is not accepted: x509: certificate signed by unknown authority.*\): set KAFKA_TLS_CA to the authority`},
		"another name": {"LOGIN", secure + ";KAFKA_TLS_SERVER_NAME=",
			`cannot validate certificate for 127.0.0.1.*KAFKA_TLS_SERVER_NAME to a name in it$`},
		"no client certificate": {"MUTUAL", secure, `^no Kafka broker at 127.0.0.1:\d+ ` +
			`\(it refuses this client's certificate: .*\): set KAFKA_TLS_CERT and KAFKA_TLS_KEY to one that it accepts$`},
		"TLS on a plain port": {"PLAINLOGIN", secure,
			`\(it closes the connection\): the broker may speak plain text on this port \(unset KAFKA_TLS\), or`},
		"plain text on a TLS port": {"MUTUAL", "",
			`\(it closes the connection\): KAFKA_TLS or KAFKA_SASL_MECHANISM may be missing or wrong$`},
		"wrong password, PLAIN":           {"LOGIN", secureLogin("PLAIN", "x"), refused("PLAIN", "SASL Authentication failed")},
		"wrong password, SCRAM-SHA-512":   {"LOGIN", secureLogin("SCRAM-SHA-512", "x"), refused("SCRAM-SHA-512", "")},
		"a mechanism that is not offered": {"PLAINLOGIN", login("SCRAM-SHA-512", "secret"), refused("SCRAM-SHA-512", "not support")},
		"a login where none is wanted": {"MUTUAL", mine + ";" + login("PLAIN", "secret"),
			refused("PLAIN", "not valid given the current SASL state")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := at(t, broker.ListenerAddrs(c.listener), c.vars)
			within(t, cmp.Or(c.want, "^<nil>$"), func() any { // on a busy machine a time-out may come first
				if err := cluster.Check(t.Context()); err != nil || c.want != "" {
					return err
				}
				session, err := cluster.NewSession(t.Context(), "test", chat)
				if err == nil {
					defer session.Close()
					_, err = session.Offset(0, sarama.OffsetOldest)
				}
				return err
			})
		})
	}
}

// A record of some kilobytes that becomes 64 MiB costs a reader no memory. A small one is read.
func compressedBombs(t *testing.T, kafkaAt string) {
	const large = 64 << 20
	for codec, size := range map[sarama.CompressionCodec]int{
		sarama.CompressionGZIP:   large,
		sarama.CompressionSnappy: 17 << 20, // to a 21st at best, and Kafka takes 1 MiB
		sarama.CompressionLZ4:    large,
		sarama.CompressionZSTD:   large,
	} {
		t.Run(codec.String(), func(t *testing.T) {
			cluster, topic := at(t, kafkaAt), kafkatest.Topic(t, kafkaAt)
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
			small := strings.Repeat("b", 1000)
			for _, value := range []string{strings.Repeat("a", size), small} {
				if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}); err != nil {
					t.Fatal(err)
				}
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			expect(t, read(t, cluster, topic).Messages(), "(offset 0 was left out: more than 16 MiB when decompressed)", small)
			runtime.ReadMemStats(&after)
			// 16 MiB are decompressed into a buffer that doubles; a bomb that is decompressed whole takes 128 and more.
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 112 {
				t.Errorf("reading took %d MiB of memory", took)
			}
		})
	}
}
