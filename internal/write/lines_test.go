package write_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"kafkachat/internal/write"
)

func ExampleReader() {
	r := write.NewReader(strings.NewReader("one\ntwo\n\nnot read"), write.Options{}, nil)
	for {
		batch, err := r.Next(context.Background())
		if err != nil {
			fmt.Println("the end:", err)
			return
		}
		for _, line := range batch { // one or both, as they come
			fmt.Printf("%s\n", line.Value)
		}
	}
	// Output:
	// one
	// two
	// the end: blank line
}

// all takes lines until there are no more, and returns how they were batched too.
func all(t *testing.T, r *write.Reader) (got []string, batches []int, err error) {
	t.Helper()
	for {
		batch, err := r.Next(t.Context())
		if err != nil {
			return got, batches, err
		}
		batches = append(batches, len(batch))
		for _, line := range batch {
			got = append(got, value(t, line))
		}
	}
}

// value is a line without its key.
func value(t *testing.T, line write.Line) string {
	t.Helper()
	text, err := line.Value.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// options are those of kafkawrite's flags.
func options(t *testing.T, args ...string) write.Options {
	t.Helper()
	opt, err := write.Parse(args, io.Discard, "")
	if err != nil {
		t.Fatal(err)
	}
	return opt
}

func TestLines(t *testing.T) {
	t.Parallel()
	const maxLine = 1_000_000
	long := strings.Repeat("x", maxLine)
	for _, c := range []struct {
		input string
		blank bool
		want  []string
		err   string
	}{
		{"", false, nil, "EOF"},
		{"a", false, []string{"a"}, "EOF"},
		{"a\n", false, []string{"a"}, "EOF"},
		{"a\r\nb\r\n", false, []string{"a", "b"}, "EOF"},
		{"a\rb\r\nc\r", false, []string{"a\rb", "c\r"}, "EOF"},
		{"a\n\nb", false, []string{"a"}, "blank line"},
		{"a\r\n\r\nb", false, []string{"a"}, "blank line"},
		{"\n", false, nil, "blank line"},
		{"a\n\nb", true, []string{"a", "", "b"}, "EOF"},
		{"\n\r\n", true, []string{"", ""}, "EOF"},
		{" \n\x00\n\xff", false, []string{" ", "\x00", "\xff"}, "EOF"},
		{long + "\n" + long + "\r\n" + long, false, []string{long, long, long}, "EOF"},
		{"a\n" + long + "x", false, []string{"a"}, "longer than 1000000 bytes"},
		{"a\n" + long + "x\nb\n", false, []string{"a"}, "longer than 1000000 bytes"},
		{"a\n" + long + "xxx\r\nb\n", false, []string{"a"}, "longer than 1000000 bytes"},
	} {
		name := fmt.Sprintf("%.20q", c.input)
		ways := map[string]io.Reader{
			"":                strings.NewReader(c.input),
			", halves":        iotest.HalfReader(strings.NewReader(c.input)),
			", end with data": iotest.DataErrReader(strings.NewReader(c.input)),
		}
		if len(c.input) < maxLine {
			ways[", a byte a time"] = iotest.OneByteReader(strings.NewReader(c.input))
		}
		for how, input := range ways {
			got, _, err := all(t, write.NewReader(input, options(t, fmt.Sprintf("-blank=%v", c.blank)), t.Logf))
			if !slices.Equal(got, c.want) || err.Error() != c.err {
				t.Errorf("%s%s: %.50q, %v; want %.50q, %v", name, how, got, err, c.want, c.err)
			}
		}
	}
	if _, _, err := all(t, write.NewReader(iotest.ErrReader(io.ErrClosedPipe), write.Options{}, t.Logf)); err != io.ErrClosedPipe {
		t.Errorf("an input that fails: %v", err)
	}
}

// A line is split at the first separator. One without it ends the lines.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ separator, input, want, err string }{
		{`:`, "a:b:c\n:d\n", "[a|b:c |d]", "EOF"},
		{`\t`, "a\tb\n", "[a|b]", "EOF"},
		{`\t`, `{"a":"x\ty"}` + "\n", "[]", `has no "\t" after its key`},
		{`\\t`, `a\tb`, "[a|b]", "EOF"},
		{`::`, "a::b\nno\nc::d\n", "[a|b]", `has no "::" after its key`},
		{`:`, "\ufeffa:b\n", "[a|b]", "EOF"},
	} {
		r := write.NewReader(strings.NewReader(c.input), options(t, "-key-sep", c.separator), t.Logf)
		got := []string{}
		batch, err := r.Next(t.Context())
		for ; err == nil; batch, err = r.Next(t.Context()) {
			for _, line := range batch {
				key, _ := line.Key.Encode()
				got = append(got, string(key)+"|"+value(t, line))
			}
		}
		if fmt.Sprint(got) != c.want || err.Error() != c.err {
			t.Errorf("-key-sep %s, %q: %v, %v; want %s, %s", c.separator, c.input, got, err, c.want, c.err)
		}
	}
	if _, err := write.Parse([]string{"-key-sep", `\x`}, io.Discard, ""); err == nil {
		t.Error(`-key-sep \x is accepted`)
	}
}

// A mark of the encoding at the start of the input is said: that of UTF-8 is dropped, and only there.
func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		input string
		want  []string
		says  string
	}{
		{"\ufeffa\n\ufeffb\n", []string{"a", "\ufeffb"}, "the input begins with a byte order mark, which is not written\n"},
		{"\ufeff\r\na", nil, "the input begins with a byte order mark, which is not written\n"},
		{"\xff\xfea\x00", []string{"\xff\xfea\x00"}, "the input begins like UTF-16; its bytes are written as they are (`iconv -f UTF-16 -t UTF-8` makes UTF-8 of it)\n"},
		{"a\ufeff", []string{"a\ufeff"}, ""},
	} {
		said := ""
		say := func(format string, args ...any) { said += fmt.Sprintf(format, args...) + "\n" }
		got, _, _ := all(t, write.NewReader(strings.NewReader(c.input), write.Options{}, say))
		if !slices.Equal(got, c.want) || said != c.says {
			t.Errorf("%q: %q, and it says %q", c.input, got, said)
		}
	}
}

// TestBatches takes lines when many are there: no batch may be more than a broker accepts, and no line may be changed by
// those that are read later.
func TestBatches(t *testing.T) {
	t.Parallel()
	const n, extra = 100_000, 30
	var input bytes.Buffer
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat("y", i%200)))
		input.WriteString(want[i] + "\n")
	}
	got, batches, err := all(t, write.NewReader(&input, options(t, "-key", strings.Repeat("k", extra)), t.Logf))
	if err != io.EOF || !slices.Equal(got, want) {
		t.Fatalf("%d lines, %v; want %d", len(got), err, n)
	}
	for i, line := 0, 0; i < len(batches); i++ {
		size := 0
		for range batches[i] {
			size += len(want[line]) + extra
			line++
		}
		if size > 1_045_000 {
			t.Errorf("batch %d has %d bytes", i, size)
		}
	}
}

// TestTyped waits for each line before it gives the next one: nobody must wait for a batch to fill.
func TestTyped(t *testing.T) {
	t.Parallel()
	input, typist := io.Pipe()
	defer typist.Close()
	r := write.NewReader(input, write.Options{}, t.Logf)
	for i := range 1000 {
		fmt.Fprintln(typist, i)
		batch, err := r.Next(t.Context())
		if err != nil || len(batch) != 1 || value(t, batch[0]) != fmt.Sprint(i) {
			t.Fatalf("after line %d: %q, %v", i, batch, err)
		}
	}
}

// TestContext ends reading: what was read is still handed over, and no more, however much there is.
func TestContext(t *testing.T) {
	t.Parallel()
	input, typist := io.Pipe()
	defer input.Close()
	go func() {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintln(typist, i); err != nil {
				return
			}
		}
	}()
	r := write.NewReader(input, write.Options{}, t.Logf)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := r.Next(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	for batches := 0; ; batches++ {
		if _, err := r.Next(ctx); err == context.Canceled {
			break
		} else if err != nil || batches > 1 {
			t.Fatalf("%d more batches, %v", batches, err)
		}
	}

	ctx, cancel = context.WithCancel(t.Context())
	silent, nobody := io.Pipe()
	defer nobody.Close()
	time.AfterFunc(10*time.Millisecond, cancel)
	if batch, err := write.NewReader(silent, write.Options{}, t.Logf).Next(ctx); err != context.Canceled {
		t.Errorf("%q, %v from an input that says nothing", batch, err)
	}
}
