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
)

// maxLine is the largest size of a line in bytes, without its end: a little less than brokers
// accept (message.max.bytes, usually 1,048,588).
const maxLine = 1_000_000

// ahead is how many batches a Reader reads in advance: more take memory, and are not faster.
const ahead = 3

var (
	errBlank   = errors.New("blank line")
	errTooLong = fmt.Errorf("longer than %d bytes", maxLine)
)

// A Reader reads a few batches in advance, for one goroutine that calls Next. The Reader's own
// goroutine ends with the input, or at a line that cannot be sent. Otherwise it ends with the
// process, because a read of a terminal cannot be cancelled.
type Reader struct {
	Options
	report  *Report
	message func(key, value sarama.Encoder) *sarama.ProducerMessage

	mu      sync.Mutex // guards the following
	changed sync.Cond  // signals a change of pending or err
	pending []*sarama.ProducerMessage
	size    int   // of pending, in bytes
	err     error // why no line follows pending
}

// NewReader reads lines that end with LF or CRLF; the last line needs no end. The Reader stops when
// ctx ends, at a line that is too long or has no key, and without -blank at a blank line. A byte
// order mark at the start of the input is not part of the first line. Message makes a line's
// message, in the Reader's goroutine; key is nil if there is none. Report counts the lines.
func NewReader(ctx context.Context, input io.Reader, opt Options, report *Report, message func(key, value sarama.Encoder) *sarama.ProducerMessage) *Reader {
	r := &Reader{Options: opt, report: report, message: message}
	r.changed.L = &r.mu
	context.AfterFunc(ctx, func() { r.end(ctx.Err()) })
	go func() { r.end(r.read(input)) }()
	return r
}

func (r *Reader) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.changed.Broadcast()
}

// Next waits for a line, and returns all lines that were read, up to a few batches. After the last
// line it returns an error: io.EOF, or that of the input, of a line that cannot be sent, or of ctx.
func (r *Reader) Next() ([]*sarama.ProducerMessage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.pending) == 0 {
		if r.err != nil {
			return nil, r.err
		}
		r.changed.Wait()
	}
	batch := r.pending
	r.pending, r.size = nil, 0
	r.changed.Broadcast()
	return batch, nil
}

func (r *Reader) read(input io.Reader) error {
	lines := bufio.NewReaderSize(input, maxLine+len("\r\n"))
	for first := true; ; first = false {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return errTooLong
		}
		if len(line) == 0 || err != nil && err != io.EOF {
			return err // half a line is not sent
		}
		if err == nil { // otherwise the last line has no end, and a CR is part of it
			line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		}
		if text, marked := bytes.CutPrefix(line, []byte("\ufeff")); first && marked {
			r.report.Say("the input begins with a byte order mark, which is not written")
			line = text
		}
		switch {
		case len(line) == 0 && !r.blank:
			return errBlank
		case len(line) > maxLine:
			return errTooLong
		case !bytes.Contains(line, []byte(r.separator)): // "" is in every line
			return fmt.Errorf("has no %q after its key", r.separator)
		}
		r.add(line)
		if err != nil { // no second read of the end: a terminal would need another Ctrl-D
			return err
		}
	}
}

// add waits for room in pending, and appends the message of a copy of line, unless err is set.
func (r *Reader) add(line []byte) {
	key, value := r.key, bytes.Clone(line)
	if r.separator != "" {
		before, after, _ := bytes.Cut(value, []byte(r.separator))
		key, value = sarama.ByteEncoder(before), after
	}
	message := r.message(key, sarama.ByteEncoder(value))
	size := message.ByteSize(2)
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil && len(r.pending) > 0 && (len(r.pending) == ahead*batchLines || r.size+size > ahead*batchBytes) {
		r.changed.Wait()
	}
	if r.err != nil {
		return
	}
	r.report.read.Add(1)
	r.pending = append(r.pending, message)
	r.size += size
	r.changed.Broadcast()
}
