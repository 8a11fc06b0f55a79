package kafka_test

import (
	"testing"

	"kafkachat/internal/kafka"
)

func TestMend(t *testing.T) {
	t.Parallel()
	const command = "kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics --entity-name chat --add-config min.insync.replicas="
	for state, want := range map[kafka.State]string{
		{Copies: 1, MinInSync: 1}: "", // the lab's one broker
		{Copies: 3, MinInSync: 2}: "",
		{Copies: 2, MinInSync: 0}: "", // not known
		{Copies: 2, MinInSync: 2}: command + "1",
		{Copies: 3, MinInSync: 3}: command + "2",
	} {
		if got := state.Mend("chat"); got != want {
			t.Errorf("%+v: %q, want %q", state, got, want)
		}
	}
}
