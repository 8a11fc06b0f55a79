package realkafka_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/realkafka"
)

const topic = "test"

// patience is for what takes Kafka five seconds on an idle machine: this one may be busy with ten
// other things.
const patience = 120 * time.Second

func TestRestartKeepsDataAndWipeLosesIt(t *testing.T) {
	t.Parallel()
	c := realkafka.Start(t, realkafka.Options{})
	createTopic(t, c.Addrs(), 1)
	for range 3 {
		eventually(t, "produce", func() error { return produce(c.Addrs()) })
	}

	c.Kill(0)
	if conn, err := net.Dial("tcp", c.Addr(0)); err == nil {
		conn.Close()
		t.Fatal("a killed broker accepts connections")
	}
	c.Start(0)
	ready(t, c)
	eventually(t, "the records are there after a restart", func() error { return wantEnd(c.Addrs(), 3) })

	c.Kill(0)
	c.Wipe(0)
	c.Start(0)
	ready(t, c)
	if topics := topics(t, c.Addrs()); len(topics) != 0 {
		t.Fatalf("a wiped broker has topics: %v", topics)
	}
	createTopic(t, c.Addrs(), 1)
	eventually(t, "the wiped broker takes records", func() error { return produce(c.Addrs()) })
	eventually(t, "its offsets start again", func() error { return wantEnd(c.Addrs(), 1) })
}

func TestPausedBrokerIsSilentUntilResumed(t *testing.T) {
	t.Parallel()
	c := realkafka.Start(t, realkafka.Options{})
	c.Pause(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.Ready(ctx); err == nil {
		t.Fatal("a paused broker answers")
	}
	conn, err := net.Dial("tcp", c.Addr(0))
	if err != nil {
		t.Fatalf("a paused broker must still accept connections: %v", err)
	}
	conn.Close()
	c.Resume(0)
	ready(t, c)
}

func TestAnotherBrokerTakesOverFromAKilledLeader(t *testing.T) {
	t.Parallel()
	c := realkafka.Start(t, realkafka.Options{Brokers: 3})
	createTopic(t, c.Addrs(), 3)
	eventually(t, "produce", func() error { return produce(c.Addrs()) })
	old := leader(t, c.Addrs())

	c.Kill(int(old))
	eventually(t, "produce without the old leader", func() error { return produce(c.Addrs()) })
	if now := leader(t, c.Addrs()); now == old {
		t.Fatalf("the killed broker %d still leads", old)
	}
	eventually(t, "nothing is lost", func() error { return wantEnd(c.Addrs(), 2) })

	c.Wipe(int(old))
	c.Start(int(old))
	ready(t, c)
	eventually(t, "the wiped broker copies the partition again", func() error { return wantInSync(c.Addrs(), 3) })
}

func TestFurtherListenersAndAdvertisedAddress(t *testing.T) {
	t.Parallel()
	var proxy string
	c := realkafka.Start(t, realkafka.Options{
		Advertise: func(_ int, addr string) string {
			proxy = forward(t, addr)
			return proxy
		},
		Listeners: map[string]string{"LOGIN": "SASL_PLAINTEXT"},
		Properties: map[string]string{
			"sasl.enabled.mechanisms":                            "SCRAM-SHA-256",
			"listener.name.login.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		},
		Format: []string{"--add-scram", "SCRAM-SHA-256=[name=ann,password=secret]"},
	})
	if c.Addrs() != proxy || c.Addr(0) == proxy {
		t.Fatalf("addresses: advertised %s, real %s, proxy %s", c.Addrs(), c.Addr(0), proxy)
	}
	client := connect(t, c.Addr(0))
	if got := client.Brokers()[0].Addr(); got != proxy {
		t.Errorf("the broker tells clients to go to %s, want %s", got, proxy)
	}

	login := c.ListenerAddrs("LOGIN")
	conn, err := net.Dial("tcp", login)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	config := sarama.NewConfig()
	config.Metadata.Retry.Max = 0
	if anonymous, err := sarama.NewClient(strings.Split(login, ","), config); err == nil {
		anonymous.Close()
		t.Error("the listener that wants a login lets anybody in")
	}
}

// forward is the simplest proxy: one that copies bytes. It ends with the test.
func forward(t *testing.T, to string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				go io.Copy(out, in)
				io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}
