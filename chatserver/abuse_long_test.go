//go:build linux && long

package main

import (
	"testing"
	"time"
)

func TestFullAbuse(t *testing.T) { abuse(t, 10_000, 100_000, 4700, 5*time.Second) }
