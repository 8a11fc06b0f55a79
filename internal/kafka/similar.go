package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// similar is for the start of a sentence about a topic that there is not: it names topics with nearly
// the same name, which may be meant. It is empty if there are none, or if Kafka does not say.
func (c *Cluster) similar(ctx context.Context, topic string) string {
	metadata, err := c.metadata(ctx, c.adminConfig(ctx), "")
	if err != nil {
		return ""
	}
	var names []string
	for _, t := range metadata.Topics {
		if t.Name != topic && alike(t.Name, topic) {
			names = append(names, fmt.Sprintf("%q", t.Name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "did you mean " + strings.Join(names[:min(3, len(names))], " or ") + "? "
}

// alike says whether a and b differ in upper and lower case, in punctuation, or by a slip: one
// letter in three at most.
func alike(a, b string) bool {
	plain := strings.NewReplacer(".", "", "_", "", "-", "")
	a, b = plain.Replace(strings.ToLower(a)), plain.Replace(strings.ToLower(b))
	return a == b || distance(a, b) <= min(2, len(b)/3)
}

// distance is that of Levenshtein: how many letters have to be put in, left out or changed; two
// neighbours that have changed places count as one.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = 1 + min(rows[i-1][j], rows[i][j-1], rows[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
