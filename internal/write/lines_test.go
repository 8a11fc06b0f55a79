package write_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/write"
)

// reader is one with kafkawrite's flags.
func reader(t *testing.T, input io.Reader, args ...string) *write.Reader {
	t.Helper()
	opt, err := write.Parse(args, io.Discard, "")
	if err != nil {
		t.Fatal(err)
	}
	return write.NewReader(t.Context(), input, opt, &write.Report{Say: t.Logf}, message)
}

func message(key, value sarama.Encoder) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{Key: key, Value: value}
}

// all takes lines until there are no more.
func all(r *write.Reader) (got []string, err error) {
	for {
		batch, err := r.Next()
		if err != nil {
			return got, err
		}
		for _, line := range batch {
			text := fmt.Sprintf("%s", line.Value)
			if line.Key != nil {
				text = fmt.Sprintf("%s|%s", line.Key, text)
			}
			got = append(got, text)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	const maxLine = 1_000_000
	long := strings.Repeat("x", maxLine)
	for _, c := range []struct {
		args, input string
		want        []string
		err         string
	}{
		{"", "", nil, "EOF"},
		{"", "a", []string{"a"}, "EOF"},
		{"", "a\r\nb\r\n", []string{"a", "b"}, "EOF"},
		{"", "a\rb\r\nc\r", []string{"a\rb", "c\r"}, "EOF"},
		{"", "a\n\nb", []string{"a"}, "blank line"},
		{"", "a\r\n\r\nb", []string{"a"}, "blank line"},
		{"-blank", "a\n\nb", []string{"a", "", "b"}, "EOF"},
		{"", " \n\x00\n\xff", []string{" ", "\x00", "\xff"}, "EOF"},
		{"", long + "\n" + long + "\r\n" + long, []string{long, long, long}, "EOF"},
		{"", "a\n" + long + "x", []string{"a"}, "longer than 1000000 bytes"},
		{"", "a\n" + long + "xxx\r\nb\n", []string{"a"}, "longer than 1000000 bytes"},
		{"", "\ufeffa\n\ufeffb\n", []string{"a", "\ufeffb"}, "EOF"},
		{"", "\ufeff\r\na", nil, "blank line"},
		{"-key-sep :", "\ufeffa:b:c\n:d\n", []string{"a|b:c", "|d"}, "EOF"},
		{`-key-sep \t`, "a\tb\n", []string{"a|b"}, "EOF"},
		{`-key-sep \t`, `{"a":"x\ty"}` + "\n", nil, `has no "\t" after its key`},
		{`-key-sep \\t`, `a\tb`, []string{"a|b"}, "EOF"},
		{"-key-sep ::", "a::b\nno\nc::d\n", []string{"a|b"}, `has no "::" after its key`},
		{"-key k", "a\n", []string{"k|a"}, "EOF"},
	} {
		ways := map[string]io.Reader{
			"in one":        strings.NewReader(c.input),
			"halves":        iotest.HalfReader(strings.NewReader(c.input)),
			"end with data": iotest.DataErrReader(strings.NewReader(c.input)),
		}
		if len(c.input) < maxLine {
			ways["a byte a time"] = iotest.OneByteReader(strings.NewReader(c.input))
		}
		for how, input := range ways {
			got, err := all(reader(t, input, strings.Fields(c.args)...))
			if !slices.Equal(got, c.want) || err.Error() != c.err {
				t.Errorf("%s %.20q, %s: %.50q, %v; want %.50q, %v", c.args, c.input, how, got, err, c.want, c.err)
			}
		}
	}
	if _, err := all(reader(t, iotest.ErrReader(io.ErrClosedPipe))); err != io.ErrClosedPipe {
		t.Errorf("an input that fails: %v", err)
	}
}

// TestContext ends reading, whether there is ever more or nothing at all.
func TestContext(t *testing.T) {
	t.Parallel()
	endless, typist := io.Pipe()
	defer endless.Close()
	go func() {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintln(typist, i); err != nil {
				return
			}
		}
	}()
	silent, nobody := io.Pipe()
	defer nobody.Close()
	for _, input := range []io.Reader{endless, silent} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		r := write.NewReader(ctx, input, write.Options{}, &write.Report{Say: t.Logf}, message)
		if _, err := all(r); err != context.Canceled {
			t.Errorf("%v, want that of the context", err)
		}
	}
}
