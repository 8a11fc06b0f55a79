package faults

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/chatclient"
)

// script is a journal in short: words, each at the next second, with the id of a message (-: none) and @ its offset.
func script(name, words string) journal {
	kinds := map[string]chatclient.Event{
		"+": {Kind: chatclient.Said}, ">": {Kind: chatclient.Sent}, "": {Kind: chatclient.Message},
		"ack:": {Kind: chatclient.Acked}, "no:": {Kind: chatclient.Rejected}, "?": {Kind: chatclient.Unsure},
		"fresh": {Kind: chatclient.Welcomed, Reason: chat.Fresh}, "back": {Kind: chatclient.Welcomed},
		"gap": {Kind: chatclient.Welcomed, Reason: chat.Gap}, "reset": {Kind: chatclient.Welcomed, Reason: chat.Reset},
		"GAP": {Kind: chatclient.Gap}, "RESET": {Kind: chatclient.Reset},
	}
	form := regexp.MustCompile(`^(\+|>|\?|ack:|no:|)(\w?)-?(?:@(\d))?$`)
	j := journal{name: name}
	for i, word := range strings.Fields(words) {
		e, whole := kinds[word]
		if !whole {
			parts := form.FindStringSubmatch(word)
			e = kinds[parts[1]]
			e.ID = parts[2]
			e.Offset, _ = strconv.ParseInt(parts[3], 10, 64)
		}
		e.At = second(i)
		j.events = append(j.events, e)
	}
	return j
}

func second(n int) time.Time { return time.Date(2026, 1, 2, 15, 0, n, 0, time.UTC) }

func TestVerdict(t *testing.T) {
	t.Parallel()
	const sender = "fresh +a >a +b >b a@0 b@1 ack:a@0 ack:b@1 +c >c c@2"
	const reset = "fresh +a >a a@0 RESET -@0 +b no:b +d no:d +c >c c@1"
	for name, test := range map[string]struct {
		log    string // the ids of the topic's records from offset 0 on; - is none, . is a hole
		first  string // the sender's journal
		second string // another client's
		remade bool
		wrong  string
	}{
		"all is well":                {log: "aba.c", first: "fresh +a >a back >a +b >b a@0 b@1 +c >c c@4", second: "fresh a@0 b@1 back c@4"},
		"lost in the middle":         {log: "abc", first: sender, second: "fresh a@0 back c@2", wrong: "1 lost; "},
		"lost at the end":            {log: "abcd", first: sender + " +d >d d@3", second: "fresh a@0 b@1 c@2", wrong: "1 lost; "},
		"not lost, but told":         {log: "abcd", first: sender + " +d >d d@3", second: "fresh gap b@1 GAP d@3"},
		"acked, and not in the log":  {log: "a.c", first: "fresh +a >a +b >b a@0 ack:b@1 +c >c c@2", second: "fresh a@0 c@2", wrong: "1 lost; "},
		"never answered":             {log: "a.c", first: "fresh +a >a +b >b a@0 back +c >c c@2", second: "fresh a@0 c@2", wrong: "1 unanswered; "},
		"given up":                   {log: "a.c", first: "fresh +a >a +b >b a@0 ?b +c >c c@2", second: "fresh a@0 c@2"},
		"shown twice":                {log: "abac", first: "fresh +a >a back >a +b >b a@0 b@1 +c >c c@3", second: "fresh a@0 b@1 a@2 c@3", wrong: "1 doubled; "},
		"shown twice, without id":    {log: "a-c", first: "fresh +a >a a@0 -@1 +b no:b +c >c c@2", second: "fresh a@0 -@1 -@1 c@2", wrong: "1 other order; "},
		"in another order":           {log: "abc", first: sender, second: "fresh b@0 a@1 c@2", wrong: "2 lost; 1 out of order; 2 other order; "},
		"rejected but in the log":    {log: "abc", first: "fresh +a >a no:a a@0 +b >b b@1 +c >c c@2", second: "fresh a@0 b@1 c@2", wrong: "3 rejected but shown; "},
		"three copies":               {log: "aaac", first: "fresh +a >a a@0 +b no:b back +c >c c@3", second: "fresh a@0 c@3", wrong: "1 with too many copies; "},
		"another log, told":          {log: "-c", first: reset, second: "fresh a@0 reset -@0 c@1", remade: true},
		"another log, not told":      {log: "-c", first: reset, second: "fresh a@0 c@1", remade: true, wrong: "1 not told of a reset; "},
		"before the reset, disagree": {log: "-c", first: reset, second: "fresh x@0 reset -@0 c@1", remade: true, wrong: "1 other order; "},
		"silent after the fault":     {log: "ab", first: "fresh +a >a +b >b a@0 b@1", second: "fresh a@0 b@1", wrong: "2 without a message after the fault; "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log []logged
			for offset, id := range test.log {
				if id != '.' {
					log = append(log, logged{int64(offset), strings.Trim(string(id), "-")})
				}
			}
			journals := []journal{script("first", test.first), script("second", test.second)}
			v := judge(evidence{journals: journals, log: log, ended: second(6), remade: test.remade})
			if wrong := v.wrong(); wrong != test.wrong {
				t.Errorf("wrong is %q, want %q; complaints: %q", wrong, test.wrong, v.complaints)
			}
		})
	}
	slow, table := &verdict{clients: 2, fewest: 3, recovery: []time.Duration{11 * time.Second}}, new(table)
	table.add("slow", slow)
	table.add("slow", &verdict{clients: 2, fewest: 4, most: 5, copies: 2, recovery: []time.Duration{time.Second}})
	const want = "\n| slow | 2 | 2 | 0 | 0 | 0 | 3–5 | 0 | 0 | 0 | 0 | 0 | 0 | 2 | 0 | 0 | 0 | 11.00 s, 11.00 s |\n"
	if got, wrong := table.String(), slow.wrong(); !strings.HasSuffix(got, want) || wrong != "11.0 s until deliveries flowed again; " {
		t.Errorf("%s\n%s", got, wrong)
	}
}
