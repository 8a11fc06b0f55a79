package realkafka_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// A node keeps its data when it is killed, loses it when it is wiped, and is silent while it is paused.
func TestOneBroker(t *testing.T) {
	t.Parallel()
	c := realkafka.Start(t, realkafka.Options{})
	config := sarama.NewConfig()
	config.Net.ReadTimeout, config.Metadata.Retry.Max = 2*time.Second, 0
	topics := func() string {
		client, err := sarama.NewClient([]string{c.Addr(0)}, config)
		if err != nil {
			return "none"
		}
		defer client.Close()
		return fmt.Sprint(client.Topics())
	}
	want := func(want string, within time.Duration) { // a broker knows its topics once it has read its log
		t.Helper()
		for deadline := time.Now().Add(within); topics() != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the topics are %s, want %s", topics(), want)
			}
		}
	}
	kafkatest.Recreate(t, c.Addrs(), "test")
	c.Kill(0)
	want("none", 0)
	c.Start(0)
	want("[test] <nil>", 2*time.Minute)
	c.Pause(0)
	want("none", 0)
	c.Resume(0)
	c.Wipe(0)
	c.Start(0)
	want("[] <nil>", 2*time.Minute)
}
