package scale

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

func TestMessageComesBackFromItsFrame(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 123456789)
	text := appendMessage(nil, 7, 1234, at)
	frame := append([]byte{fin | opText, byte(len(text))}, text...)
	for cut := range frame {
		if _, _, rest, ok := nextFrame(frame[:cut]); ok || len(rest) != cut {
			t.Fatalf("%d bytes of a frame are taken for one", cut)
		}
	}
	opcode, payload, rest, ok := nextFrame(append(frame, fin|opPing, 0))
	if opcode != opText || !bytes.Equal(payload, text) || len(rest) != 2 || !ok {
		t.Fatalf("opcode %d, payload %q, rest %v, ok %t", opcode, payload, rest, ok)
	}
	if run, n, nanos, ok := parseMessage(payload); run != 7 || n != 1234 || nanos != at.UnixNano() || !ok {
		t.Errorf("run %d, message %d, at %d, ok %t", run, n, nanos, ok)
	}
	if _, _, _, ok := parseMessage([]byte("hello")); ok {
		t.Error("a text of somebody else is taken for a message")
	}
}

func TestFramesOfClientsAreMasked(t *testing.T) {
	t.Parallel()
	got := appendFrame(nil, opPong, []byte("hi"))
	if want := []byte{0x8a, 0x82, 0, 0, 0, 0, 'h', 'i'}; !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestFrameOfSixteenBitLength(t *testing.T) {
	t.Parallel()
	frame := append([]byte{fin | opText, 126, 1, 0}, make([]byte, 256)...)
	if _, payload, rest, ok := nextFrame(frame); len(payload) != 256 || len(rest) != 0 || !ok {
		t.Errorf("%d bytes, %d left, ok %t", len(payload), len(rest), ok)
	}
	if opcode, _, _, ok := nextFrame([]byte{fin | opText, 127}); opcode != 0 || !ok {
		t.Errorf("a frame of 64 bits' length: opcode %d, ok %t", opcode, ok)
	}
}

func TestHistogramIsAThirtySecondTooLargeAtMost(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, 1, 31, 32, 33, 63, 64, 65, 1000, 123456, time.Millisecond, time.Second, time.Hour} {
		var h Histogram
		h.add(d)
		if got := h.quantile(0.5); got < d || got > d+d/32 {
			t.Errorf("%d is read as %d", d, got)
		}
	}
	if got := (Histogram{}).quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %s", got)
	}
}

func TestQuantilesOfMergedHistograms(t *testing.T) {
	t.Parallel()
	var h, other Histogram
	for i := range 1000 {
		half := &h
		if i >= 500 {
			half = &other
		}
		half.add(time.Duration(i+1) * time.Millisecond)
	}
	h.merge(other)
	for q, want := range map[float64]float64{0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		if got := h.quantile(q).Seconds() * 1000; math.Abs(got-want) > want/32 {
			t.Errorf("quantile %g is %.1f ms, want %g", q, got, want)
		}
	}
}

// shown is the tally of clients that were shown these messages, of two senders who take turns.
func shown(clients ...string) *Tally {
	all := &Tally{}
	for _, messages := range clients {
		one, j := &Tally{Slowest: make([]time.Duration, 10)}, newJournal(10, 2)
		for _, digit := range messages {
			if n := int(digit - '0'); j.take(n) {
				one.note(n, time.Duration(n)*time.Millisecond)
			}
		}
		one.close([]*journal{j})
		all.merge(one)
	}
	return all
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for clients, want := range map[string]string{
		"0123 0123":   "",
		"1032 1032":   "", // the senders' messages may cross, if they do so for all
		"0123 1032":   "2 different orders; ",
		"0123 012":    "1 lost; 2 different orders; ",
		"01233 01233": "2 doubled; ",
		"2013 2013":   "2 out of order; ",
	} {
		if got := shown(strings.Fields(clients)...).wrong(4); got != want {
			t.Errorf("%s: %q, want %q", clients, got, want)
		}
	}
	if slowest := shown("01", "0").Slowest[1]; slowest != time.Millisecond {
		t.Errorf("message 1 took %s", slowest)
	}
}

// ladder is one as a run might find it.
func ladder() []rung {
	var all []rung
	for _, pods := range []int{1, 2, 4, 8} {
		r := rung{pods: pods}
		for round := range 3 {
			f := figures{
				clients: 100 * pods, sent: 100, deliveries: 1e4 * float64(pods), expected: 1e5 * pods, delivered: 1e5 * pods,
				cpu: 3000 + 100*float64(round), fanOut: 2500, consume: 50000, rss: 30e6,
				p50: 2 * time.Millisecond, p99: 5 * time.Millisecond, p999: time.Duration(pods) * time.Millisecond,
				busy: 0.1 * float64(pods),
			}
			if pods == 4 && round == 1 {
				f.delivered, f.wrong = f.delivered-7, "7 lost; "
			}
			if pods == 8 {
				f.cpu *= 1.2
			}
			r.runs = append(r.runs, f)
		}
		all = append(all, r)
	}
	return all
}

func TestLadderTable(t *testing.T) {
	t.Parallel()
	text := ladderTable(ladder())
	for _, want := range []string{
		"\n| 1 | 100 | 100 | 10,000 | all of 300,000 | 3,100 | – | 2,500 | – | 50 | 30 | 2.0 | 5.0 | 1.0 | 0 + 0 + 10 |\n",
		"| **1,199,993 of 1,200,000** |", "- **4 pods, round 2: 7 lost**", "| 3,720 | +20 % |",
		"CPU per delivery: +0 % at 2 pods, +0 % at 4 pods, +20 % at 8 pods, so **more than** 10 % above 1 pod.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

func TestIdleTable(t *testing.T) {
	t.Parallel()
	text := idleTable([]idleFigures{{
		idleCase: idleCase{4, 60000}, connected: 12 * time.Second, rss: 2345, cpu: 0.031,
		slowest: []time.Duration{3 * time.Second, time.Second, 2 * time.Second}, wrong: "1 lost; ",
	}})
	if want := "\n| 4 | 60,000 | 12.0 | 2,345 | 3.1 | 2000 | 3000 | **1 lost** |\n"; !strings.Contains(text, want) {
		t.Errorf("there is no %q in\n%s", want, text)
	}
}

func TestPlotIsSmallAndWellFormed(t *testing.T) {
	t.Parallel()
	svg := plot(ladder())
	if len(svg) > 15000 {
		t.Errorf("%d bytes", len(svg))
	}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"NaN", "Inf"} {
		if strings.Contains(svg, want) {
			t.Errorf("there is %s in the plot", want)
		}
	}
}

func TestAxisEndsAboveTheHighest(t *testing.T) {
	t.Parallel()
	for highest, want := range map[float64]float64{0: 1, 1: 1, 1.1: 2, 3: 3, 4.5: 5, 7: 8, 9: 10, 3100: 4000, 5200: 6000} {
		if got := axis(highest); got != want {
			t.Errorf("the axis for %g ends at %g, want %g", highest, got, want)
		}
	}
}

func TestParseIdle(t *testing.T) {
	t.Parallel()
	got, err := parseIdle("1x18000,4x15000")
	if err != nil || len(got) != 2 || got[1] != (idleCase{pods: 4, clients: 60000}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseIdle("1x0"); err == nil {
		t.Error("no clients are taken for some")
	}
}

func TestLimitTableSaysWhatIsMissed(t *testing.T) {
	t.Parallel()
	rows := []limitRow{
		{limitCase: limitCase{name: "easy", clients: 1000, rate: 200, p50: 3, cpu: 1, kept: 0.98},
			limit: []limitFigures{{rate: 200, cpu: 4000, p50: time.Millisecond, p99: 4 * time.Millisecond}},
			pod:   []limitFigures{{rate: 199, cpu: 3000, p50: 3 * time.Millisecond, p99: 8 * time.Millisecond}}},
		{limitCase: limitCase{name: "hard", clients: 1000, rate: 8000, p99: 2, cpu: 0.5, kept: 0.95},
			limit: []limitFigures{{rate: 8000, cpu: 100, p50: time.Millisecond, p99: 4 * time.Millisecond}},
			pod:   []limitFigures{{rate: 7000, cpu: 90, p50: time.Millisecond, p99: 12 * time.Millisecond, wrong: "3 lost; "}}},
	}
	table := limitTable(rows)
	for _, want := range []string{
		"| easy | 1,000 | the limit | 200 | 4000 | | 1.0 | | 4.0 | |\n| | | the pod | 199 | 3000 | 0.75 | 3.0 | 3.00 | 8.0 | 2.00 |\n",
		"- hard: **CPU is 0.90 of the limit's, and the goal is 0.50; p99 is 3.00 of the limit's, and the goal is 2.00; messages/s are 0.88 of the limit's, and the goal is 0.95**.\n",
		"- **hard, the pod, run 1: 3 lost**\n",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks\n%s:\n%s", want, table)
		}
	}
	if strings.Contains(table, "- easy") {
		t.Errorf("what reached its goals is complained about:\n%s", table)
	}
}
