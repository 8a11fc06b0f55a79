// Package leaktest fails a test that leaves goroutines behind.
package leaktest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Check is called before the test starts a goroutine. At the end of the test, all goroutines that
// began since must end within patience, except those that options ignore.
func Check(t testing.TB, patience time.Duration, options ...goleak.Option) {
	options = append(options, goleak.IgnoreCurrent())
	t.Cleanup(func() {
		err := goleak.Find(options...) // waits less than half a second
		for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); {
			err = goleak.Find(options...)
		}
		if err != nil {
			t.Error(err)
		}
	})
}
