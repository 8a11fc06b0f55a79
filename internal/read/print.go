package read

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/wire"
)

// gather is how long records are gathered before they are written, unless there are many.
const gather = 5 * time.Millisecond

// A Printer prints the records of all partitions. Any goroutine may use it.
type Printer struct {
	show     format
	terminal bool
	say      cli.Say
	stop     context.CancelFunc // called when no more records are wanted

	mu      sync.Mutex // guards the following
	out     *bufio.Writer
	text    []byte // memory for one record
	flush   *time.Timer
	waiting bool // flush will run
	left    int  // records that are still wanted; -1: all
	skipped int  // records that cannot be read, as far as is known
	err     error
}

// NewPrinter returns a printer of as many records as the flags say. It calls stop when it has
// printed them, and when stdout takes no more.
func NewPrinter(stdout io.Writer, opt Options, say cli.Say, stop context.CancelFunc) *Printer {
	p := &Printer{show: opt.show, say: say, stop: stop, out: bufio.NewWriterSize(stdout, 64<<10), left: opt.count}
	if p.show == nil {
		p.show = asJSON
	} else if file, ok := stdout.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if p.left == 0 {
		p.left = -1
	}
	p.flush = time.AfterFunc(time.Hour, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waiting = false
		p.failed(p.out.Flush())
	})
	return p
}

// Print prints a record within a few milliseconds, or says why it cannot be read.
func (p *Printer) Print(record *sarama.ConsumerMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 || p.err != nil {
		return
	}
	if len(record.Headers) == 1 && string(record.Headers[0].Key) == wire.SkippedHeader {
		p.say("partition %d: %s", record.Partition, harmless(record.Headers[0].Value))
		p.skipped++
		return
	}
	if p.terminal {
		record = forTerminal(record)
	}
	p.text = p.show(p.text[:0], record)
	_, err := p.out.Write(p.text)
	p.failed(err)
	if !p.waiting {
		p.waiting = true
		p.flush.Reset(gather)
	}
	if p.left--; p.left == 0 {
		p.stop()
	}
}

func (p *Printer) failed(err error) {
	if err != nil && p.err == nil {
		p.err = err
		p.stop()
	}
}

// Close writes the rest, and returns why not everything was printed. A pipe that nobody reads is no
// error.
func (p *Printer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flush.Stop()
	p.failed(p.out.Flush())
	switch {
	case errors.Is(p.err, syscall.EPIPE):
		return nil
	case p.err != nil:
		return fmt.Errorf("writing to standard output: %w", p.err)
	case p.skipped > 0:
		return fmt.Errorf("not all records could be read: see above")
	}
	return nil
}
