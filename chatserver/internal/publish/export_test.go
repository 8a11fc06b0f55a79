package publish

import "time"

// GiveUpAfter has a send be given up sooner than outside of tests.
func (p *Publisher) GiveUpAfter(d time.Duration) { p.hungAfter = d }
