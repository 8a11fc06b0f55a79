//go:build long

package presence

import (
	"testing"
	"time"

	"kafkachat/internal/kafkatest"
)

// Faults of the network do not keep pods from each other for longer than they last, nor leave connections behind.
func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	for name, begins := range map[string]func(*kafkatest.Proxy){
		"refused": func(p *kafkatest.Proxy) { p.Refuse(true); p.Cut() },
		"hangs":   func(p *kafkatest.Proxy) { p.Pause(kafkatest.Both) },
		"silent":  func(p *kafkatest.Proxy) { p.Pause(kafkatest.Answers) },
		"cut":     func(p *kafkatest.Proxy) { p.SetFault(kafkatest.CutEach(1, 5, 30)) }, // and stays so
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers, _, topic := kafkaFor(t)
			proxy := kafkatest.NewProxy(t, brokers)
			a, b := begin(t, cluster(proxy.Addr()), topic, "a", nil), begin(t, cluster(proxy.Addr()), topic, "b", nil)
			want(patience, "a:0 b:0", a, b)
			conns := proxy.Conns()
			begins(proxy)
			a.people(3)
			want(patience, "a:3 b:0", a)
			proxy.Refuse(false)
			proxy.Resume()
			want(patience, "a:3 b:0", b)
			for deadline := time.Now().Add(patience); proxy.Conns() > conns+2; time.Sleep(10 * time.Millisecond) { // some are being replaced
				if time.Now().After(deadline) {
					t.Fatalf("%d connections, before the fault %d", proxy.Conns(), conns)
				}
			}
		})
	}
}
