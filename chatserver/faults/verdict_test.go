package faults

import (
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/chatclient"
)

// script is a journal in short: words with the ids of messages, each at the next second.
//
//	+a said    >a sent    a@3 message at offset 3    ack:a@3    no:a rejected    ?a unsure
//	fresh, back, gap, reset: welcomes    GAP, RESET: in the stream
func script(name, words string) journal {
	j := journal{name: name}
	for i, word := range strings.Fields(words) {
		e := chatclient.Event{At: second(i)}
		if id, offset, ok := strings.Cut(word, "@"); ok {
			e.ID, e.Offset = id, int64(offset[0]-'0')
			e.Kind = chatclient.Message
			if id, ok := strings.CutPrefix(id, "ack:"); ok {
				e.Kind, e.ID = chatclient.Acked, id
			}
		} else if id, ok := strings.CutPrefix(word, "no:"); ok {
			e.Kind, e.ID = chatclient.Rejected, id
		} else {
			switch word[0] {
			case '+':
				e.Kind, e.ID = chatclient.Said, word[1:]
			case '>':
				e.Kind, e.ID = chatclient.Sent, word[1:]
			case '?':
				e.Kind, e.ID = chatclient.Unsure, word[1:]
			default:
				e.Kind = chatclient.Welcomed
				switch word {
				case "fresh":
					e.Reason = chat.Fresh
				case "gap":
					e.Reason = chat.Gap
				case "reset":
					e.Reason = chat.Reset
				case "GAP":
					e.Kind = chatclient.Gap
				case "RESET":
					e.Kind = chatclient.Reset
				}
			}
		}
		j.events = append(j.events, e)
	}
	return j
}

func second(n int) time.Time { return time.Date(2026, 1, 2, 15, 0, n, 0, time.UTC) }

// topic is a log in short: the ids of its records from offset 0 on; - is none, . is a hole.
func topic(ids string) (log []logged) {
	for offset, id := range ids {
		switch id {
		case '.':
		case '-':
			log = append(log, logged{int64(offset), ""})
		default:
			log = append(log, logged{int64(offset), string(id)})
		}
	}
	return log
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	const sender = "fresh +a >a +b >b a@0 b@1 ack:a@0 ack:b@1 +c >c c@2"
	for name, test := range map[string]struct {
		log    string
		first  string // the sender's journal
		second string // another client's
		remade bool
		wrong  string
	}{
		"all is well":                {log: "abc", first: sender, second: "fresh a@0 b@1 back c@2"},
		"a copy, not shown":          {log: "aba.c", first: "fresh +a >a back >a +b >b a@0 b@1 +c >c c@4", second: "fresh a@0 b@1 c@4"},
		"lost in the middle":         {log: "abc", first: sender, second: "fresh a@0 c@2", wrong: "1 lost"},
		"lost at the beginning":      {log: "abc", first: sender, second: "fresh b@1 c@2", wrong: "1 lost"},
		"lost at the end":            {log: "abcd", first: sender + " +d >d d@3", second: "fresh a@0 b@1 c@2", wrong: "1 lost"},
		"lost when it came back":     {log: "abc", first: sender, second: "fresh a@0 back c@2", wrong: "1 lost"},
		"not lost, but told":         {log: "abc", first: sender, second: "fresh a@0 gap c@2"},
		"not lost, but told later":   {log: "abc", first: sender, second: "fresh a@0 GAP c@2"},
		"acked, and not in the log":  {log: "a.c", first: "fresh +a >a +b >b a@0 ack:b@1 +c >c c@2", second: "fresh a@0 c@2", wrong: "1 lost"},
		"never answered":             {log: "a.c", first: "fresh +a >a +b >b a@0 +c >c c@2", second: "fresh a@0 c@2", wrong: "1 unanswered"},
		"given up":                   {log: "a.c", first: "fresh +a >a +b >b a@0 ?b +c >c c@2", second: "fresh a@0 c@2"},
		"shown twice":                {log: "abac", first: "fresh +a >a back >a +b >b a@0 b@1 +c >c c@3", second: "fresh a@0 b@1 a@2 c@3", wrong: "1 doubled"},
		"in another order":           {log: "abc", first: sender, second: "fresh b@0 a@1 c@2", wrong: "2 in another order"},
		"backwards":                  {log: "bac", first: "fresh +a >a +b >b b@0 a@1 +c >c c@2", second: "fresh b@0 a@1 c@2", wrong: "2 out of order"},
		"rejected but in the log":    {log: "abc", first: "fresh +a >a no:a a@0 +b >b b@1 +c >c c@2", second: "fresh a@0 b@1 c@2", wrong: "rejected but shown"},
		"three copies, sent once":    {log: "aaac", first: "fresh +a >a a@0 +b no:b +c >c c@3", second: "fresh a@0 c@3", wrong: "1 with too many copies"},
		"three copies, sent thrice":  {log: "aaac", first: "fresh +a >a back >a back >a a@0 +c >c c@3", second: "fresh a@0 c@3", wrong: "1 with too many copies"},
		"another log, told":          {log: "-c", first: "fresh +a >a a@0 RESET -@0 +b no:b +d no:d +c >c c@1", second: "fresh a@0 reset -@0 c@1", remade: true},
		"another log, not told":      {log: "-c", first: "fresh +a >a a@0 RESET -@0 +b no:b +d no:d +c >c c@1", second: "fresh a@0 c@1", remade: true, wrong: "not told"},
		"another log, acked, lost":   {log: "-c", first: "fresh +a >a a@0 RESET -@0 +b >b ack:b@1 +d no:d +c >c c@1", second: "fresh a@0 reset -@0 c@1", remade: true, wrong: "1 lost"},
		"before the reset, disagree": {log: "c", first: "fresh +a >a a@0 RESET +b no:b +d no:d +c >c c@0", second: "fresh x@0 reset c@0", remade: true, wrong: "1 in another order"},
		"silent after the fault":     {log: "ab", first: "fresh +a >a +b >b a@0 b@1", second: "fresh a@0 b@1", wrong: "2 clients without a message"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := judge(evidence{
				journals: []journal{script("first", strings.ReplaceAll(test.first, "-@", "@")), script("second", strings.ReplaceAll(test.second, "-@", "@"))},
				log:      topic(test.log), ended: second(6), remade: test.remade,
			})
			wrong := v.wrong()
			if test.wrong == "" && wrong != "" || !strings.Contains(wrong, test.wrong) {
				t.Errorf("wrong is %q, want %q; complaints: %q", wrong, test.wrong, v.complaints)
			}
		})
	}
}

func TestSlowRecoveryIsWrong(t *testing.T) {
	t.Parallel()
	v := verdict{recovery: []time.Duration{time.Second, 11 * time.Second}}
	if v.wrong() == "" {
		t.Error("11 s without a delivery are well")
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var table table
	table.add("a fault", &verdict{clients: 2, sent: 3, fewest: 3, most: 3, recovery: []time.Duration{time.Second}})
	table.add("a fault", &verdict{clients: 2, sent: 4, fewest: 4, most: 5, copies: 2, recovery: []time.Duration{2 * time.Second}})
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("the table has %d lines, want 3:\n%s", len(lines), table.String())
	}
	if want := "| a fault | 2 | 2 | 7 | 0 | 0 | 3–5 | 0 | 0 | 0 | 0 | 0 | 0 | 2 | 0 | 0 | 0 | 2.00 s, 2.00 s |"; lines[2] != want {
		t.Errorf("got  %s\nwant %s", lines[2], want)
	}
	if cells := strings.Count(lines[0], "|"); strings.Count(lines[1], "|") != cells || strings.Count(lines[2], "|") != cells {
		t.Errorf("lines with different numbers of cells:\n%s", table.String())
	}
}
