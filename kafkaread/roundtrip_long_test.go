//go:build long && !race

package main

import "testing"

// A million lines, and neither program takes as much as 100 MB for them.
func TestMillionLines(t *testing.T) {
	written, read := roundTrip(t, 1_000_000)
	t.Logf("kafkawrite took %d MB, kafkaread %d MB", written, read)
	if max(written, read) > 100 {
		t.Errorf("kafkawrite took %d MB, kafkaread %d MB", written, read)
	}
}
