package kafka_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kafkachat/internal/kafka"
)

// fromEnv reads variables that are given as NAME=VALUE, with semicolons between them.
func fromEnv(vars string) (*kafka.Cluster, error) {
	return kafka.FromEnv(func(name string) (value string) {
		for v := range strings.SplitSeq(vars, ";") {
			if rest, ok := strings.CutPrefix(v, name+"="); ok {
				value = rest // the last one counts
			}
		}
		return value
	})
}

func TestFromEnv(t *testing.T) {
	t.Parallel()
	notPEM := filepath.Join(t.TempDir(), "not.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for vars, want := range map[string]string{ // brokers, or else a pattern of the error
		"":                                     `localhost:9092`,
		"KAFKA_BROKER=kafka":                   `kafka:9092`,
		"KAFKA_BROKER=a:1,b,10.0.0.1 , c:9":    `a:1 b:9092 10.0.0.1:9092 c:9`,
		"KAFKA_BROKER=::1":                     `[::1]:9092`,
		"KAFKA_BROKER=[::1]:9093,[fe80::1]:2":  `[::1]:9093 [fe80::1]:2`,
		"KAFKA_BROKER=,":                       `^KAFKA_BROKER=",": "" is no host:port; valid is`,
		"KAFKA_BROKER=a:0":                     `^KAFKA_BROKER="a:0": "a:0" is no host:port; valid is host:port, several with commas, ports from 1 to 65535`,
		"KAFKA_BROKER=a:70000":                 `"a:70000" is no host:port`,
		"KAFKA_BROKER=tcp://a:1":               `"tcp://a:1" is no host:port`,
		"KAFKA_BROKER=a:b:c":                   `"a:b:c" is no host:port`,
		"KAFKA_BROKERS=a:1":                    `^KAFKA_BROKERS="a:1" is not read: the variable is KAFKA_BROKER$`,
		"KAFKA_BROKERS=a:1;KAFKA_BROKER=b:2":   `b:2`,
		"KAFKA_TLS=yes":                        `^KAFKA_TLS="yes": valid is true or false$`,
		"KAFKA_TLS=1;KAFKA_TLS_CA=/missing":    `^KAFKA_TLS_CA="/missing": open .*`,
		"KAFKA_TLS=1;KAFKA_TLS_CA=" + notPEM:   `^KAFKA_TLS_CA=".*not.pem": there is no certificate in this file`,
		"KAFKA_TLS=1;KAFKA_TLS_CERT=" + notPEM: `^KAFKA_TLS_CERT=".*", KAFKA_TLS_KEY="": .*valid are two PEM files that belong together$`,
		"KAFKA_SASL_MECHANISM=plain":           `^KAFKA_SASL_MECHANISM="plain": valid is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512$`,
		"KAFKA_SASL_MECHANISM=PLAIN;KAFKA_SASL_PASSWORD=secret": `^KAFKA_SASL_MECHANISM="PLAIN" needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD$`,
	} {
		if c, err := fromEnv(vars); err != nil {
			wantError(t, err, want)
		} else if got := strings.Join(c.Brokers, " "); got != want {
			t.Errorf("%q: %q, want %q", vars, got, want)
		}
	}
}

func TestTopic(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string]string{
		"": "chat", "a.b_c-D9": "a.b_c-D9", strings.Repeat("x", 249): strings.Repeat("x", 249),
		"a b": "", "ä": "", "a/b": "", ".": "", "..": "", strings.Repeat("x", 250): "",
	} {
		if got, err := kafka.Topic(func(string) string { return topic }); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", topic, got, err)
		}
	}
}

// FromEnv asks for every variable that the list has, and for no other.
func TestVariables(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, v := range kafka.Variables() {
		listed = append(listed, v.Name)
	}
	asked := make(map[string]bool)
	kafka.FromEnv(func(name string) string {
		asked[name] = true
		return map[string]string{"KAFKA_TLS": "true"}[name]
	})
	delete(asked, "KUBERNETES_SERVICE_HOST") // Kubernetes sets it
	delete(asked, "KAFKA_BROKERS")           // a slip
	if read := slices.Sorted(maps.Keys(asked)); !slices.Equal(read, slices.Sorted(slices.Values(listed))) {
		t.Errorf("read are %q, listed %q", read, listed)
	}
}

// FuzzFromEnv: whatever the variables say, the answer is brokers that can be dialled, or an error.
func FuzzFromEnv(f *testing.F) {
	f.Add("a:1,b", "true", "PLAIN", "u", "p")
	f.Add("[::1]:2", "0", "", "", "")
	f.Add("::", "", "SCRAM-SHA-256", "", "")
	f.Fuzz(func(t *testing.T, broker, tls, mechanism, user, password string) {
		cluster, err := fromEnv(fmt.Sprintf("KAFKA_BROKER=%s;KAFKA_TLS=%s;KAFKA_SASL_MECHANISM=%s;KAFKA_SASL_USERNAME=%s;KAFKA_SASL_PASSWORD=%s",
			broker, tls, mechanism, user, password))
		if err != nil {
			return
		}
		if len(cluster.Brokers) == 0 {
			t.Fatalf("%q: no broker and no error", broker)
		}
		if err := cluster.Config(t.Context(), "fuzz").Validate(); err != nil {
			t.Errorf("sarama does not accept the settings: %v", err)
		}
	})
}
