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
	long := strings.Repeat("x", 1_000_000)
	for _, c := range []struct {
		args, input string
		want        []string
		err         string
	}{
		{"", "a\r\nb\r\n", []string{"a", "b"}, "EOF"},
		{"", long + "\n" + long + "\r\n" + long, []string{long, long, long}, "EOF"},
		{"", "a\n" + long + "xxx\r\nb\n", []string{"a"}, "longer than 1000000 bytes"},
		{"", "a\n" + long + "x", []string{"a"}, "longer than 1000000 bytes"},
		{"", "a\n\r\nb", []string{"a"}, "blank line"},
		{"-key k", "a\n", []string{"k|a"}, "EOF"},
		{"", "\ufeffa\n\ufeffb\n", []string{"a", "\ufeffb"}, "EOF"},
		{"-key-sep :", "\ufeffa:b:c\n:d\n", []string{"a|b:c", "|d"}, "EOF"},
		{`-key-sep \t`, `{"a":"x\ty"}` + "\n", nil, `has no "\t" after its key`},
	} {
		ways := map[string]io.Reader{
			"a byte a time": iotest.OneByteReader(strings.NewReader(c.input)),
			"end with data": iotest.DataErrReader(strings.NewReader(c.input)),
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

// The end of the context ends reading, also where there is ever more.
func TestContext(t *testing.T) {
	t.Parallel()
	endless, typist := io.Pipe()
	defer endless.Close()
	go func() {
		for err := error(nil); err == nil; {
			_, err = io.WriteString(typist, "line\n")
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	r := write.NewReader(ctx, endless, write.Options{}, &write.Report{Say: t.Logf}, message)
	if _, err := all(r); err != context.Canceled {
		t.Errorf("%v, want that of the context", err)
	}
}
