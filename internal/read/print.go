package read

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/wire"
)

// gather is how long records are buffered before they are written, unless the buffer is full.
const gather = 5 * time.Millisecond

// A Printer prints the records of all partitions. Any goroutine may use it.
type Printer struct {
	Options
	terminal bool
	say      cli.Say
	stop     context.CancelFunc // called when no more records are wanted

	mu      sync.Mutex    // guards the following
	out     *bufio.Writer // keeps its first error
	text    []byte        // memory for one record
	printed uint64
	skipped bool // a record could not be read
}

// NewPrinter returns a Printer for as many records as the flags say. The Printer calls stop after
// the last record, and when a write to stdout fails.
func NewPrinter(stdout io.Writer, opt Options, say cli.Say, stop context.CancelFunc) *Printer {
	return &Printer{Options: opt, say: say, stop: stop, out: bufio.NewWriterSize(stdout, 64<<10), terminal: cli.Terminal(stdout)}
}

// Print prints a record within a few milliseconds, or says why it cannot be read.
func (p *Printer) Print(record *sarama.ConsumerMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.count > 0 && p.printed == p.count:
		return // another partition had the last one
	case len(record.Headers) == 1 && string(record.Headers[0].Key) == wire.SkippedHeader:
		p.say("partition %d: %s", record.Partition, harmless(record.Headers[0].Value))
		p.skipped = true
		return
	case p.json:
		p.text = appendJSON(p.text[:0], record)
	default:
		p.text = appendFormat(p.text[:0], p.format, record, p.terminal)
	}
	if p.out.Buffered() == 0 {
		time.AfterFunc(gather, func() { p.flush() })
	}
	_, err := p.out.Write(p.text)
	if p.printed++; err != nil || p.printed == p.count {
		p.stop()
	}
}

func (p *Printer) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.out.Flush()
	if err != nil {
		p.stop()
	}
	return err
}

// Close writes the rest, and returns why not everything was printed. A closed pipe is no error.
func (p *Printer) Close() error {
	switch err := p.flush(); {
	case errors.Is(err, syscall.EPIPE):
		return nil
	case err != nil:
		return fmt.Errorf("writing to standard output: %w", err)
	case p.skipped:
		return errors.New("not all records could be read: see above")
	}
	return nil
}
