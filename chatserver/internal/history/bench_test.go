package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
)

// BenchmarkAdd is what a pod does with a record of 128 bytes before its first client gets it: decode,
// look for a copy, encode for both kinds of clients, append to the frame log.
func BenchmarkAdd(b *testing.B) {
	tail := New(16 << 20)
	tail.Open(0, 0)
	messages := make([]*sarama.ConsumerMessage, chat.WindowSize+1) // an id comes again when the window has let it go
	for i := range messages {
		m := &sarama.ConsumerMessage{Timestamp: time.Now(), Value: []byte(strings.Repeat("x", 128))}
		for _, h := range chat.Headers(chat.Message{ID: fmt.Sprintf("id-%023d", i), Name: "Ann", Pod: "pod-a"}) {
			m.Headers = append(m.Headers, &h)
		}
		messages[i] = m
	}
	b.ReportAllocs()
	var offset int64
	for b.Loop() {
		m := messages[offset%int64(len(messages))]
		m.Offset = offset
		offset++
		if _, err := tail.Add(m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(offset)/b.Elapsed().Seconds(), "records/s")
	if copies := tail.Counters().Copies; copies > 0 {
		b.Fatalf("%d records were left out", copies)
	}
}
