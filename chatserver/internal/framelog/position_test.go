package framelog_test

import (
	"testing"
	"unicode/utf8"

	"kafkachat/chatserver/internal/framelog"
)

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"", "0.00000000", "-1.00000000", "-2.00000000", "9223372036854775807.ffffffff", "9223372036854775808.ffffffff",
		"1", "1.", ".00000000", "1.0000000", "1.000000000", "1.0000000g", "1.-0000000", "1.+0000000", "+1.00000000", "0x1.00000000", "1_0.00000000", " 1.00000000", "1.00000000 ", "1.00000000\x00"} {
		f.Add(s, int64(len(s))<<55, uint32(len(s))<<27)
	}
	f.Fuzz(func(t *testing.T, s string, offset int64, sum uint32) {
		if p, err := framelog.ParsePosition(s); err == nil {
			if p.String() != s || p.Offset < -1 {
				t.Errorf("%q is read as %v", s, p)
			}
		} else if p != (framelog.Position{}) || !utf8.ValidString(err.Error()) || len(err.Error()) > 300 {
			t.Errorf("%q: %v, %q", s, p, err)
		}
		want := framelog.Position{Offset: max(offset, -1), Sum: sum}
		if got, err := framelog.ParsePosition(want.String()); err != nil || got != want {
			t.Errorf("%v is read as %v, %v", want, got, err)
		}
	})
}
