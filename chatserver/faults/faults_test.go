//go:build faults

package faults

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/realkafka"
)

func TestMain(m *testing.M) {
	flag.Uint64("faults.seed", uint64(rand.Uint32()), "of all randomness")
	flag.Duration("faults.load", 8*time.Second, "how long there is load for each fault")
	flag.Int("faults.runs", 1, "how often each fault happens")
	os.Exit(m.Run())
}

// option reads one of the flags.
func option[T any](name string) T { return flag.Lookup("faults." + name).Value.(flag.Getter).Get().(T) }

func TestFaults(t *testing.T) {
	seed, length, runs := option[uint64]("seed"), option[time.Duration]("load"), option[int]("runs")
	server := podtest.Build(t)
	var table table
	t.Cleanup(func() { fmt.Printf("\n%s\nseed %d\n\n", &table, seed) })
	for _, brokers := range []int{1, 3} {
		t.Run(fmt.Sprintf("brokers=%d", brokers), func(t *testing.T) {
			group := t
			var kafka *realkafka.Cluster
			for _, row := range rows() {
				if cmp.Or(row.brokers, 1) != brokers {
					continue
				}
				for run := range runs {
					t.Run(row.name, func(t *testing.T) {
						if kafka == nil {
							kafka = realkafka.Start(group, realkafka.Options{Brokers: brokers})
						}
						table.add(row.name, row.happen(newWorld(t, kafka, server, seed+uint64(run), length)))
					})
				}
			}
		})
	}
}
