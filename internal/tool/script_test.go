package tool_test

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kafkachat/internal/kafkatest"
)

// patience is for what takes a healthy Kafka milliseconds, on a machine that is busy with other tests.
const patience = 60 * time.Second

// TestScripts runs what a person would type. Each script has a topic of its own, $TOPIC, which nobody has made yet.
func TestScripts(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "KAFKA_BROKER="+brokers, "TOPIC="+kafkatest.TopicName(t, brokers))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"waitfor": waitFor},
	})
}

// waitFor is the command "waitfor FILE PATTERN": it waits until the file has a match.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor FILE PATTERN")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	var text []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if text, err = os.ReadFile(ts.MkAbs(args[0])); err == nil && pattern.Match(text) {
			return
		}
	}
	ts.Fatalf("%s has no match for %s:\n%s", args[0], args[1], text)
}
