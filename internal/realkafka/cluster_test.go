package realkafka_test

import (
	"fmt"
	"testing"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// A node keeps its data when it is killed, loses it when it is wiped, and is silent while it is paused.
func TestOneBroker(t *testing.T) {
	t.Parallel()
	c := realkafka.Start(t, realkafka.Options{})
	cluster := &kafka.Cluster{Brokers: []string{c.Addr(0)}}
	look := func() string { return fmt.Sprint(cluster.Partitions(t.Context(), "test")) }
	want := func(want string) { // a broker knows its topics once it has read its log
		t.Helper()
		if !clitest.Eventually(look, "^"+want) {
			t.Fatalf("the topic's partitions are %s, want %s", look(), want)
		}
	}
	kafkatest.Recreate(t, c.Addrs(), "test")
	c.Kill(0)
	want("0 no Kafka broker")
	c.Start(0)
	want("1 <nil>")
	c.Pause(0)
	want("0 no Kafka broker")
	c.Resume(0)
	c.Wipe(0)
	c.Start(0)
	want("0 <nil>")
}
