package lines_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"kafkachat/internal/lines"
)

func ExampleReader() {
	r := lines.NewReader(strings.NewReader("one\ntwo\n\nnot read"), false, 0)
	for {
		batch, err := r.Next(context.Background())
		if err != nil {
			fmt.Println("the end:", err)
			return
		}
		for _, line := range batch { // one or both, as they come
			fmt.Printf("%s\n", line)
		}
	}
	// Output:
	// one
	// two
	// the end: blank line
}

// all takes lines until there are no more, and returns how they were batched too.
func all(t *testing.T, r *lines.Reader) (got []string, batches []int, err error) {
	t.Helper()
	for {
		batch, err := r.Next(t.Context())
		if err != nil {
			return got, batches, err
		}
		batches = append(batches, len(batch))
		for _, line := range batch {
			got = append(got, string(line))
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", lines.Max)
	for _, c := range []struct {
		input string
		blank bool
		want  []string
		err   error
	}{
		{"", false, nil, io.EOF},
		{"a", false, []string{"a"}, io.EOF},
		{"a\n", false, []string{"a"}, io.EOF},
		{"a\r\nb\r\n", false, []string{"a", "b"}, io.EOF},
		{"a\rb\r\nc\r", false, []string{"a\rb", "c\r"}, io.EOF},
		{"a\n\nb", false, []string{"a"}, lines.ErrBlank},
		{"a\r\n\r\nb", false, []string{"a"}, lines.ErrBlank},
		{"\n", false, nil, lines.ErrBlank},
		{"a\n\nb", true, []string{"a", "", "b"}, io.EOF},
		{"\n\r\n", true, []string{"", ""}, io.EOF},
		{" \n\x00\n\xff", false, []string{" ", "\x00", "\xff"}, io.EOF},
		{long + "\n" + long + "\r\n" + long, false, []string{long, long, long}, io.EOF},
		{"a\n" + long + "x", false, []string{"a"}, lines.ErrTooLong},
		{"a\n" + long + "x\nb\n", false, []string{"a"}, lines.ErrTooLong},
		{"a\n" + long + "xxx\r\nb\n", false, []string{"a"}, lines.ErrTooLong},
	} {
		name := fmt.Sprintf("%.20q", c.input)
		ways := map[string]io.Reader{
			"":                strings.NewReader(c.input),
			", halves":        iotest.HalfReader(strings.NewReader(c.input)),
			", end with data": iotest.DataErrReader(strings.NewReader(c.input)),
		}
		if len(c.input) < lines.Max {
			ways[", a byte a time"] = iotest.OneByteReader(strings.NewReader(c.input))
		}
		for how, input := range ways {
			got, _, err := all(t, lines.NewReader(input, c.blank, 0))
			if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
				t.Errorf("%s%s: %.50q, %v; want %.50q, %v", name, how, got, err, c.want, c.err)
			}
		}
	}
	if _, _, err := all(t, lines.NewReader(iotest.ErrReader(io.ErrClosedPipe), false, 0)); err != io.ErrClosedPipe {
		t.Errorf("an input that fails: %v", err)
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
	got, batches, err := all(t, lines.NewReader(&input, false, extra))
	if err != io.EOF || !slices.Equal(got, want) {
		t.Fatalf("%d lines, %v; want %d", len(got), err, n)
	}
	for i, line := 0, 0; i < len(batches); i++ {
		size := 0
		for range batches[i] {
			size += len(want[line]) + extra
			line++
		}
		if size > lines.MaxRecord {
			t.Errorf("batch %d has %d bytes", i, size)
		}
	}
}

// TestTyped waits for each line before it gives the next one: nobody must wait for a batch to fill.
func TestTyped(t *testing.T) {
	t.Parallel()
	input, typist := io.Pipe()
	defer typist.Close()
	r := lines.NewReader(input, false, 0)
	for i := range 1000 {
		fmt.Fprintln(typist, i)
		batch, err := r.Next(t.Context())
		if err != nil || len(batch) != 1 || string(batch[0]) != fmt.Sprint(i) {
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
	r := lines.NewReader(input, false, 0)
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
	if batch, err := lines.NewReader(silent, false, 0).Next(ctx); err != context.Canceled {
		t.Errorf("%q, %v from an input that says nothing", batch, err)
	}
}
