package show

import (
	"bufio"
	"io"

	"github.com/Shopify/sarama"
)

// Print writes records as show shows them, until there are no more or, if count is not 0, until there were as many. It
// gathers them for as long as they pour in; in a pause everything is out.
func Print(w io.Writer, records <-chan []*sarama.ConsumerMessage, show Func, count int) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var text []byte
	for n := 0; ; {
		var some []*sarama.ConsumerMessage
		var open bool
		select {
		case some, open = <-records:
		default:
			if err := out.Flush(); err != nil {
				return err
			}
			some, open = <-records
		}
		if !open {
			return out.Flush()
		}
		for _, record := range some {
			text = show(text[:0], record)
			if _, err := out.Write(text); err != nil {
				return err
			}
			if n++; n == count {
				return out.Flush()
			}
		}
	}
}
