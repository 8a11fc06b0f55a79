//go:build long

package presence_test

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
			a, b := start(t, proxy.Addr(), topic, "a"), start(t, proxy.Addr(), topic, "b")
			a.want("a:0", "b:0")
			b.want("a:0", "b:0")
			conns := proxy.Conns()
			fault.begin(proxy)
			a.people.Store(3)
			a.want("a:3", "b:0")
			fault.end(proxy)
			b.want("a:3", "b:0")
			if now := proxy.Conns(); now > conns+2 { // a connection that is being replaced
				t.Errorf("%d connections, before the fault %d", now, conns)
			}
		})
	}
}
