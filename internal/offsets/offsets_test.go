package offsets_test

import (
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/offsets"
)

// TestFind looks for places in a partition with the offsets 0 to 3, of which the last two came later.
func TestFind(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "0", "1")
	time.Sleep(10 * time.Millisecond) // Kafka's times are milliseconds
	between := time.Now()
	time.Sleep(10 * time.Millisecond)
	kafkatest.Produce(t, brokers, topic, "2", "3")
	client, err := sarama.NewClient(strings.Split(brokers, ","), (&kafka.Cluster{}).Config(t.Context(), "test"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	for _, c := range []struct {
		start   string
		want    int64
		skipped string
	}{
		{"oldest", 0, ""},
		{"newest", 4, ""},
		{"0", 0, ""},
		{"3", 3, ""},
		{"4", 4, ""},
		{"5", 4, "there is no offset 5 yet, the next one is 4"},
		{"-1", 3, ""},
		{"-4", 0, ""},
		{"-100", 0, ""},
		{"1h", 0, ""},
		{between.Format(time.RFC3339Nano), 2, ""},
		{between.Add(time.Hour).Format(time.RFC3339), 4, ""},
		{between.AddDate(0, 0, -2).Format(time.DateOnly), 0, ""},
		{between.AddDate(0, 0, 2).Format("2006-01-02T15:04:05"), 4, ""},
	} {
		start, err := offsets.ParseStart(c.start, time.Now())
		if err != nil {
			t.Errorf("%s: %v", c.start, err)
			continue
		}
		offset, end, skipped, err := offsets.Find(client, topic, 0, start)
		if offset != c.want || end != 4 || skipped != c.skipped || err != nil {
			t.Errorf("%s: offset %d, end %d, %q, %v; want offset %d, end 4, %q", c.start, offset, end, skipped, err, c.want, c.skipped)
		}
	}
	for _, wrong := range []string{"", "old", "1.5", "-", "-1h", "12:00", "0x10"} {
		if _, err := offsets.ParseStart(wrong, time.Now()); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}

	for _, c := range []struct {
		offset, end, want int64
		found             bool
	}{{0, 4, 0, true}, {3, 4, 3, true}, {4, 4, 0, false}, {2, 2, 0, false}, {3, 2, 0, false}} {
		next, found, err := offsets.Next(client, topic, 0, c.offset, c.end)
		if found != c.found || found && next != c.want || err != nil {
			t.Errorf("the first record in [%d, %d): %d, %v, %v", c.offset, c.end, next, found, err)
		}
	}
	if _, found, err := offsets.Next(client, topic, 0, 4, 5); found || err != offsets.ErrShort {
		t.Errorf("an end beyond the partition's: %v, %v", found, err)
	}

	for _, c := range []struct {
		offset, want int64
		lost         string
	}{{2, 2, ""}, {4, 4, ""}, {9, 0, "it ends at offset 4, though 8 was read"}} {
		next, lost, err := offsets.Resume(client, topic, 0, c.offset)
		if next != c.want || !strings.HasPrefix(lost, c.lost) || c.lost == "" && lost != "" || err != nil {
			t.Errorf("going on at %d: %d, %q, %v", c.offset, next, lost, err)
		}
	}
}
