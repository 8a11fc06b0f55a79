//go:build long

package presence

import (
	"testing"

	"kafkachat/internal/kafkatest"
)

// Faults of the network do not keep pods from each other for longer than they last, nor leave connections behind.
func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name       string
		begin, end func(*kafkatest.Proxy)
	}{
		{"refused", func(p *kafkatest.Proxy) { p.Refuse(true); p.Cut() }, func(p *kafkatest.Proxy) { p.Refuse(false) }},
		{"hangs", func(p *kafkatest.Proxy) { p.Pause(kafkatest.Both) }, (*kafkatest.Proxy).Resume},
		{"silent", func(p *kafkatest.Proxy) { p.Pause(kafkatest.Answers) }, (*kafkatest.Proxy).Resume},
		{"cut again and again", func(p *kafkatest.Proxy) { p.SetFault(kafkatest.CutEach(1, 5, 30)) }, func(*kafkatest.Proxy) {}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			brokers, topic := kafkaFor(t)
			proxy := kafkatest.NewProxy(t, brokers)
			a, b := begin(t, cluster(proxy.Addr()), topic, "a", nil), begin(t, cluster(proxy.Addr()), topic, "b", nil)
			want(patience, "a:0 b:0", a, b)
			conns := proxy.Conns()
			fault.begin(proxy)
			a.people(3)
			want(patience, "a:3 b:0", a)
			fault.end(proxy)
			want(patience, "a:3 b:0", b)
			if now := proxy.Conns(); now > conns+2 { // a connection that is being replaced
				t.Errorf("%d connections, before the fault %d", now, conns)
			}
		})
	}
}
