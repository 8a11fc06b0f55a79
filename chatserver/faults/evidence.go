package faults

import (
	"fmt"
	"time"

	"kafkachat/chatserver/internal/chatclient"
)

// A journal is everything that happened to one client, in order.
type journal struct {
	name   string
	events []chatclient.Event
}

// A logged is one record of the topic.
type logged struct {
	offset int64
	id     string // "" if it has none
}

// An evidence is what a verdict is found from.
type evidence struct {
	journals []journal
	log      []logged  // the topic at the end, in order
	ended    time.Time // when the fault ended
	remade   bool      // the topic was lost and made again, once: each client must have been told
	podsDied bool      // a message may have any number of copies
}

// A verdict counts. What is wrong is also said in complaints, the first of each client.
type verdict struct {
	clients, sent, acked, rejected, asked int
	fewest, most                          int // messages delivered to one client

	lost          int // records that a client was not shown and not told to miss, and acked messages that are not in the topic
	unanswered    int // messages of which their sender never heard again
	doubled       int // messages shown to a client twice
	outOfOrder    int // messages shown after a later one of the same sender
	otherOrder    int // messages that do not stand where the topic has them
	rejectedShown int
	untold        int // clients that were not told that the topic is another one
	surplus       int // messages with more copies in the topic than there may be
	copies        int // of one message in the topic, at most
	repeated      int // messages with more than one copy

	gaps, resets int             // told
	recovery     []time.Duration // of each client, sorted: from the fault's end to the first message written after it
	silent       int             // clients that were shown none
	complaints   []string
}

// worstRecovery is how long deliveries may take to flow again for any client.
const worstRecovery = 10 * time.Second

// wrong says what makes the verdict a bad one, whatever the fault was; "" if nothing does.
func (v *verdict) wrong() string {
	var s string
	for _, count := range []struct {
		n    int
		what string
	}{
		{v.lost, "lost"}, {v.unanswered, "unanswered"}, {v.doubled, "doubled"}, {v.outOfOrder, "out of order"},
		{v.otherOrder, "in another order"}, {v.rejectedShown, "rejected but shown"}, {v.untold, "clients not told of a reset"},
		{v.surplus, "with too many copies"}, {v.silent, "clients without a message after the fault"},
	} {
		if count.n > 0 {
			s += fmt.Sprintf("%d %s; ", count.n, count.what)
		}
	}
	if n := len(v.recovery); n > 0 && v.recovery[n-1] > worstRecovery {
		s += fmt.Sprintf("%.1f s until deliveries flowed again; ", v.recovery[n-1].Seconds())
	}
	return s
}

func (v *verdict) String() string {
	return fmt.Sprintf("%d sent, %d acked, %d rejected; %d to %d delivered to each; %d are in the topic more than once, one %d times; "+
		"%d gaps and %d resets told, %d asked; flowing again after %s", v.sent, v.acked, v.rejected, v.fewest, v.most, v.repeated, v.copies,
		v.gaps, v.resets, v.asked, spread(v.recovery))
}

// spread is the median and the worst of sorted durations.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "never"
	}
	return fmt.Sprintf("%.2f s, %.2f s", all[len(all)/2].Seconds(), all[len(all)-1].Seconds())
}
