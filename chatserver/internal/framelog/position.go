package framelog

import "fmt"

// A Position names a record and the log that the record stands in: the offset, and a sum over the
// record's content, so that another log with the same offsets is noticed.
type Position struct {
	Offset int64
	Sum    uint32
}

// String returns the form that clients keep. Clients do not parse it.
func (p Position) String() string { return fmt.Sprintf("%d.%08x", p.Offset, p.Sum) }

// ParsePosition reads what String wrote. Offset -1 is the position of a client that has seen
// nothing of a log that begins at offset 0.
func ParsePosition(s string) (p Position, err error) {
	if _, err := fmt.Sscanf(s, "%d.%x", &p.Offset, &p.Sum); err != nil || p.String() != s || p.Offset < -1 {
		return Position{}, fmt.Errorf("%.40q is not a position that this server gave", s)
	}
	return p, nil
}
