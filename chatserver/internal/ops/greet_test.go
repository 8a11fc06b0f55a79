package ops

import (
	"strings"
	"testing"
)

// The address comes last and alone, whether Kafka has answered or not.
func TestGreetingForPeople(t *testing.T) {
	t.Parallel()
	for _, ready := range []bool{true, false} {
		var b strings.Builder
		greet(&b, "a pod", "http://localhost:8001", "http://192.0.2.2:8001", ready)
		text := b.String()
		if strings.Contains(text, "waits for Kafka") == ready || !strings.Contains(text, "Chatting on a pod") ||
			!strings.Contains(text, "Others on this network open http://192.0.2.2:8001\n") || !strings.HasSuffix(text, "\n\n    http://localhost:8001\n\n") {
			t.Errorf("ready %v: %s", ready, text)
		}
	}
}
