// Package lines reads lines of text ahead of whoever takes them, so that he gets one line at once if a person types it, and
// thousands in one go if they come from a file.
package lines

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// Max is the most bytes that a line may have, without its end.
	Max = 1_000_000
	// MaxExtra is the most bytes that a record may have besides its line.
	MaxExtra = 40_000
	// MaxRecord is more than any record has, and less than brokers accept (message.max.bytes, usually 1,048,588).
	MaxRecord = Max + MaxExtra + 5_000
)

const (
	// batchBytes is about how many bytes a batch may have as a Kafka record batch; a single line may have more.
	batchBytes = 900_000
	// batchLines spares the memory of those who read the topic: they decode a record batch as a whole.
	batchLines = 10_000
	// recordBytes is what a record needs besides the line.
	recordBytes = 20
	// blockBytes is how much memory is asked for at a time.
	blockBytes = 256 << 10
)

var (
	// ErrBlank is returned after the last line before a blank one.
	ErrBlank = errors.New("blank line")
	// ErrTooLong is returned after the last line before one that is longer than Max.
	ErrTooLong = fmt.Errorf("longer than %d bytes", Max)
)

// A Reader reads ahead by at most one batch, for one goroutine that calls Next. Its own goroutine ends with the input, at a
// blank line, or else with the process: a read of a terminal cannot be called off.
type Reader struct {
	more chan struct{} // has a token after pending or err changed
	room chan struct{} // has a token after pending was taken

	mu      sync.Mutex // guards the following
	pending [][]byte
	size    int    // of pending, as a Kafka record batch
	block   []byte // holds the latest lines; full, it is left to those who have slices of it
	err     error  // why there is nothing after pending
}

// NewReader reads lines that end with LF or CRLF; the last one need not. It stops at a blank line unless blank says that
// these are lines like others. Each line counts for a batch with so many bytes besides its own.
func NewReader(input io.Reader, blank bool, extra int) *Reader {
	r := &Reader{more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	go r.read(input, blank, extra+recordBytes)
	return r
}

// Next waits for a line and returns all that are there, up to a batch. An error comes after the last line: io.EOF, ErrBlank,
// ErrTooLong, that of the input, or that of ctx, whose end is the end of reading.
func (r *Reader) Next(ctx context.Context) ([][]byte, error) {
	for {
		r.mu.Lock()
		if r.err == nil {
			r.err = ctx.Err()
		}
		batch, err := r.pending, r.err
		r.pending, r.size = nil, 0
		r.mu.Unlock()
		if len(batch) > 0 {
			signal(r.room)
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

func (r *Reader) read(input io.Reader, blank bool, extra int) {
	scanner := bufio.NewScanner(input)
	scanner.Buffer(make([]byte, 64<<10), Max+len("\r\n"))
	scanner.Split(split)
	for scanner.Scan() {
		line := scanner.Bytes()
		if len(line) == 0 && !blank {
			r.end(ErrBlank)
			return
		}
		if len(line) > Max {
			r.end(ErrTooLong)
			return
		}
		for !r.add(line, extra) {
			<-r.room
		}
		signal(r.more)
	}
	switch err := scanner.Err(); {
	case err == nil:
		r.end(io.EOF)
	case errors.Is(err, bufio.ErrTooLong):
		r.end(ErrTooLong)
	default:
		r.end(err)
	}
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
	r.pending = append(r.pending, r.block[start:len(r.block):len(r.block)])
	return true
}

func (r *Reader) end(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	signal(r.more)
}

func signal(c chan struct{}) {
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
