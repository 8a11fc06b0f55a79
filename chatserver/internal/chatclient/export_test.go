package chatclient

import (
	"context"
	"fmt"
	"net"
)

// InScript has the client reach its pods by dial, and throw dice that always show one half.
func (opt Options) InScript(dial func(context.Context, string, string) (net.Conn, error)) Options {
	opt.dial = dial
	opt.dice = func() float64 { return 0.5 }
	return opt
}

// Outbox returns the outbox in the script's words.
func (c *Client) Outbox(number func(id string) int) (all []string) {
	c.do(func() {
		for _, e := range c.outbox {
			all = append(all, fmt.Sprintf("%s:%d", [...]string{"waiting", "sent", "unsure", "stored", "refused"}[e.state], number(e.id)))
		}
	})
	return all
}

// Phase returns the connection's phase in the script's words.
func (c *Client) Phase() (phase string) {
	c.do(func() { phase = [...]string{"away", "replaying", "live"}[c.phase] })
	return phase
}
