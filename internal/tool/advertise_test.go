package tool_test

import (
	"regexp"
	"testing"

	"github.com/Shopify/sarama"
)

// TestAdvertisedName is a broker that answers, but says that it is to be reached by a name which this machine does not know:
// what happens without a line for kafka in /etc/hosts.
func TestAdvertisedName(t *testing.T) {
	t.Parallel()
	broker := sarama.NewMockBroker(t, 1)
	t.Cleanup(broker.Close)
	broker.SetHandlerByMap(map[string]sarama.MockResponse{
		"MetadataRequest": sarama.NewMockMetadataResponse(t).SetBroker("kafka.invalid:9092", 1).SetController(1),
	})
	for _, program := range []string{"kafkawrite", "kafkaread"} {
		p := start(t, broker.Addr(), "chat", program)
		p.wantExit(3)
		want := `^` + program + `: the broker at 127.0.0.1:\d+ advertises itself as kafka.invalid:9092, and this machine cannot resolve the name "kafka.invalid": add the line "127.0.0.1 kafka.invalid" to .*hosts\n$`
		if !regexp.MustCompile(want).MatchString(p.err.String()) {
			t.Errorf("it says %q", p.err.String())
		}
		if p.out.String() != "" {
			t.Errorf("it prints %q", p.out.String())
		}
	}
}
