//go:build long

package lesson_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// What needs Go's race detector, three real brokers, or half a minute.
func TestSeeItFailLong(t *testing.T) {
	t.Run("race", func(t *testing.T) { show(t, versions(t, "-race"), []experiment{{"two_tabs", race}}) })
	show(t, versions(t), []experiment{
		{"gone", gone},
		{"cut30", func(t *testing.T, v version) (string, bool) { return cut(t, v, 30*time.Second) }},
	})
}

// Two people chat.
func race(t *testing.T, v version) (string, bool) {
	a := v.start(t, kafkatest.Broker(t))
	for i := range 20 {
		ann, bob := a.visit(t, a.addr), a.visit(t, a.addr)
		ann.Said(fmt.Sprint("hello ", i))
		bob.Said(fmt.Sprint("hello ", i))
		ann.Close()
		bob.Close()
		if strings.Contains(a.log(), "WARNING: DATA RACE") {
			return fmt.Sprintf("WARNING: DATA RACE, after %d conversations of two people", i+1), true
		}
	}
	return "no report", false
}

// The broker that has stored a message dies before the others have copied it.
func gone(t *testing.T, v version) (string, bool) {
	kafka := realkafka.Start(t, realkafka.Options{Brokers: 3})
	a := v.start(t, kafka.Addrs())
	ann := a.visit(t, a.addr)
	client, err := sarama.NewClient(strings.Split(a.kafka, ","), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	b, err := client.Leader(a.topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	leader := int(b.ID())
	others := []int{(leader + 1) % 3, (leader + 2) % 3}
	for _, b := range others {
		kafka.Pause(b)
	}
	time.Sleep(6 * time.Second) // the leader answers their last fetches, also when it stands still for a while
	ann.Said("the important one")
	told := wait(v.chance(), ann.Told)
	kafka.Kill(leader)
	for _, b := range others {
		kafka.Resume(b)
	}
	stored := wait(v.patience(), func() bool { return strings.Contains(clitest.Stored(t, a.kafka, a.topic), "the important one") })
	return fmt.Sprintf("said 1, stored, as the program says: %t, in the topic after the broker has died: %t", told, stored), told && !stored
}
