package write

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
)

const (
	// maxLine is the most bytes that a line may have, without its end.
	maxLine = 1_000_000
	// maxExtra is the most bytes that a record may have besides its line: together less than brokers
	// accept (message.max.bytes, usually 1,048,588).
	maxExtra = 40_000

	// batchBytes is about how many bytes a batch may have as a Kafka record batch; a single line may
	// have more.
	batchBytes = 900_000
	// batchLines spares the memory of those who read the topic: they decode a record batch as a whole.
	batchLines = 10_000
	// recordBytes is what a record needs besides the line.
	recordBytes = 20
	// blockBytes is how much memory is asked for at a time.
	blockBytes = 256 << 10
)

var (
	// errBlank is returned after the last line before a blank one.
	errBlank = errors.New("blank line")
	// errTooLong is returned after the last line before one that is longer than maxLine.
	errTooLong = fmt.Errorf("longer than %d bytes", maxLine)
)

// A Line is the key and the value of a record.
type Line struct {
	Key, Value sarama.Encoder // Key: nil if there is none
}

// A Reader reads ahead by at most one batch, for one goroutine that calls Next. Its own goroutine
// ends with the input, at a blank line, or else with the process: a read of a terminal cannot be
// called off.
type Reader struct {
	Options
	say  cli.Say
	more chan struct{} // has a token after pending or err changed
	room chan struct{} // has a token after pending was taken

	mu      sync.Mutex // guards the following
	pending []Line
	size    int    // of pending, as a Kafka record batch
	block   []byte // holds the latest lines; full, it is left to those who have slices of it
	err     error  // why there is nothing after pending
}

// NewReader reads lines that end with LF or CRLF; the last one need not. It stops at a blank line,
// unless these are lines like others, and at one that is too long or has no key. A byte order mark
// at the start of the input is no part of the first line.
func NewReader(input io.Reader, opt Options, say cli.Say) *Reader {
	r := &Reader{Options: opt, say: say, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	go func() {
		err := r.read(input)
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
		notify(r.more)
	}()
	return r
}

// Next waits for a line and returns all that are there, up to a batch. An error comes after the last
// line: io.EOF, that of the line that cannot be sent, that of the input, or that of ctx, whose end is
// the end of reading.
func (r *Reader) Next(ctx context.Context) ([]Line, error) {
	for {
		r.mu.Lock()
		if r.err == nil {
			r.err = ctx.Err()
		}
		batch, err := r.pending, r.err
		r.pending, r.size = nil, 0
		r.mu.Unlock()
		if len(batch) > 0 {
			notify(r.room)
			return batch, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-r.more:
		case <-ctx.Done():
		}
	}
}

func (r *Reader) read(input io.Reader) error {
	scanner := bufio.NewScanner(input)
	scanner.Buffer(make([]byte, 64<<10), maxLine+len("\r\n"))
	scanner.Split(split)
	extra := r.extra + recordBytes
	for first := true; scanner.Scan(); first = false {
		line := scanner.Bytes()
		if first {
			line = r.withoutMark(line)
		}
		switch {
		case len(line) == 0 && !r.blank:
			return errBlank
		case len(line) > maxLine:
			return errTooLong
		case !bytes.Contains(line, []byte(r.separator)): // "" is in every line
			return fmt.Errorf("has no %q after its key", r.separator)
		}
		for !r.add(line, extra) {
			<-r.room
		}
		notify(r.more)
	}
	switch err := scanner.Err(); {
	case err == nil:
		return io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return errTooLong
	default:
		return err
	}
}

// withoutMark looks at the start of the input, where some programs write a mark of the encoding.
func (r *Reader) withoutMark(line []byte) []byte {
	if bytes.HasPrefix(line, []byte("\xff\xfe")) || bytes.HasPrefix(line, []byte("\xfe\xff")) {
		r.say("the input begins like UTF-16; its bytes are written as they are (`iconv -f UTF-16 -t UTF-8` makes UTF-8 of it)")
	}
	text, found := bytes.CutPrefix(line, []byte("\ufeff"))
	if found {
		r.say("the input begins with a byte order mark, which is not written")
	}
	return text
}

// add appends a copy of line; it says false if the batch is full, or if no more lines are wanted.
func (r *Reader) add(line []byte, extra int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := len(line) + extra
	if r.err != nil || len(r.pending) == batchLines || len(r.pending) > 0 && r.size+size > batchBytes {
		return false
	}
	r.size += size
	if len(r.block)+len(line) > cap(r.block) {
		r.block = make([]byte, 0, max(blockBytes, len(line)))
	}
	start := len(r.block)
	r.block = append(r.block, line...)
	key, value := r.key, r.block[start:len(r.block):len(r.block)]
	if r.separator != "" {
		before, after, _ := bytes.Cut(value, []byte(r.separator))
		key, value = sarama.ByteEncoder(before), after
	}
	r.pending = append(r.pending, Line{key, sarama.ByteEncoder(value)})
	return true
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}

// split is bufio.ScanLines, except that a CR without an LF is a byte like others.
func split(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, bytes.TrimSuffix(data[:i], []byte("\r")), nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
