//go:build faults

package faults

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/realkafka"
)

func TestMain(m *testing.M) {
	var seed [8]byte
	rand.Read(seed[:])
	flag.Uint64("faults.seed", binary.BigEndian.Uint64(seed[:])>>32, "of all randomness")
	flag.Duration("faults.load", 8*time.Second, "how long there is load for each fault")
	flag.Int("faults.runs", 1, "how often each fault happens")
	flag.String("faults.table", "", "a file to write the table to")
	flag.String("faults.logs", "", "a directory to keep the pods' logs in")
	os.Exit(m.Run())
}

// option reads one of the flags.
func option[T any](name string) T { return flag.Lookup("faults." + name).Value.(flag.Getter).Get().(T) }

func TestFaults(t *testing.T) {
	seed, length, runs := option[uint64]("seed"), option[time.Duration]("load"), option[int]("runs")
	t.Logf("-faults.seed %d -faults.load %s -faults.runs %d", seed, length, runs)
	server := podtest.Build(t)
	var table table
	t.Cleanup(func() {
		text := table.String()
		fmt.Printf("\n%s\nseed %d\n\n", text, seed)
		if name := option[string]("table"); name != "" {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
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
