package kafkatest_test

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// Clients are told of brokers that they did not start with, and reach those
// through the proxy too.
func TestProxyInFrontOfThreeBrokers(t *testing.T) {
	t.Parallel()
	cluster := realkafka.Start(t, realkafka.Options{Brokers: 3})
	p := kafkatest.NewProxy(t, cluster.Addr(0))
	produced := make(map[int]bool) // connections that carried records
	p.SetFault(func(r kafkatest.Request) kafkatest.Action {
		if r.Key == kmsg.Produce {
			produced[r.Conn] = true
		}
		return kafkatest.Action{}
	})
	for range 6 { // leaders are spread over the brokers
		topic := kafkatest.Topic(t, p.Addr())
		want := []string{"a", "b", "c"}
		kafkatest.Produce(t, p.Addr(), topic, want...)
		if got := values(t, p.Addr(), topic, len(want)); !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	}
	p.SetFault(nil)
	if len(produced) != 6 {
		t.Errorf("%d of 6 producers went through the proxy", len(produced))
	}
}
