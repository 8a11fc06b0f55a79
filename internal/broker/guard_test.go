package broker

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type badCase struct {
	name  string
	bytes []byte
}

// badBytes are what must cost a client its connection.
func badBytes() []badCase {
	header := func(key, version int16) []byte {
		return []byte{byte(key >> 8), byte(key), byte(version >> 8), byte(version), 0, 0, 0, 1, 0xff, 0xff}
	}
	frame := func(parts ...[]byte) []byte {
		b := make([]byte, 4)
		for _, p := range parts {
			b = append(b, p...)
		}
		b[2], b[3] = byte((len(b)-4)>>8), byte(len(b)-4)
		return b
	}
	many := []byte{0x7f, 0xff, 0xff, 0xff}
	return []badCase{
		{"http", []byte("GET / HTTP/1.1\r\nHost: localhost:9092\r\n\r\n")},
		{"http post", []byte("POST / HTTP/1.1\r\nHost: localhost:9092\r\nContent-Length: 5\r\n\r\nhello")},
		{"tls", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
		{"fourteen wild bytes", frame([]byte{0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff})},
		{"two gigabytes", []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
		{"four gigabytes", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
		{"a little more than allowed", []byte{maxRequest >> 24, maxRequest >> 16 & 0xff, maxRequest >> 8 & 0xff, maxRequest&0xff + 1}},
		{"nothing", []byte{0, 0, 0, 0}},
		{"half a header", frame([]byte{0, 3, 0, 1})},
		{"negative key", frame(header(-1, 0))},
		{"unknown version", frame(header(0, 1000))},
		{"negative version", frame(header(3, -1))},
		{"cut body", frame(header(1, 11), []byte{1, 2, 3})},
		{"bytes after the body", frame(header(3, 1), []byte{0, 0, 0, 0, 1, 2, 3})},
		{"an array that is not there", frame(header(3, 1), many)},
		{"topics that are not there", frame(header(0, 7), []byte{0xff, 0xff, 0, 1, 0, 0, 0, 0}, many)},
		{"tags that are not there", frame(header(22, 4), []byte{0xff, 0xff, 0xff, 0xff, 0x0f})},
		{"a batch of fewer records than it says", produceRequest("fuzz", batch(0, 4, records(3)))},
		{"a batch of more records than it says", produceRequest("fuzz", batch(0, 2, records(3)))},
		{"a batch of minus five records", produceRequest("fuzz", batch(0, -5, nil))},
		{"a batch of two billion records", produceRequest("fuzz", batch(0, math.MaxInt32, nil))},
		{"a batch that is not compressed as it says", produceRequest("fuzz", batch(4, 3, records(3)))},
		{"a batch with an unknown compression", produceRequest("fuzz", batch(7, 3, records(3)))},
	}
}

func TestBadBytesEndTheirConnectionOnly(t *testing.T) {
	b, err := Start(Config{Addr: "127.0.0.1:0", Topic: "fuzz"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range badBytes() {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, err := conn.Read(make([]byte, 100))
			if n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection is still open (%d bytes of an answer, %v)", n, err)
			}
			alive(t, b.Addr())
		})
	}
}

func TestIncompleteRequestsEnd(t *testing.T) {
	request := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1)
	tests := []struct {
		name  string
		write func(net.Conn)
		open  time.Duration // how long the connection stays
	}{
		{"nothing at all", func(net.Conn) {}, requestTimeout},
		{"two bytes", func(c net.Conn) { c.Write(request[:2]) }, requestTimeout},
		{"all but one byte", func(c net.Conn) { c.Write(request[:len(request)-1]) }, requestTimeout},
		{"a byte now and then", func(c net.Conn) {
			for _, b := range request {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(requestTimeout / 5)
			}
		}, requestTimeout},
		{"a request, then silence", func(c net.Conn) { c.Write(request) }, 0},
		{"a request, then a part of one", func(c net.Conn) { c.Write(request); c.Write(request[:5]) }, requestTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				g := newGuard(nil, versions(), slog.New(slog.DiscardHandler))
				conn, _ := g.add(server)
				begin := time.Now()
				ended := make(chan time.Duration, 1)
				go func() {
					io.Copy(io.Discard, conn) // as kfake would
					ended <- time.Since(begin)
				}()
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					tt.write(client)
				}()
				defer func() { client.Close(); <-wrote }()
				select {
				case after := <-ended:
					if after != tt.open {
						t.Errorf("closed after %v, want %v", after, tt.open)
					}
				case <-time.After(24 * time.Hour):
					if tt.open != 0 {
						t.Errorf("still open, should have been closed after %v", tt.open)
					}
				}
			})
		})
	}
}

// A request may be large, but not by having millions of topics: that would take
// many times its size.
func TestManyTopicsTakeNoMemory(t *testing.T) {
	const n = 2_000_000
	request := []byte{0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff}   // a header for Produce
	request = append(request, 0xff, 0xff, 0, 1, 0, 0, 0, 0) // no transaction, acks, timeout
	request = binary.BigEndian.AppendUint32(request, n)     // topics, each with an
	request = append(request, make([]byte, n*(2+4))...)     // empty name and no partition
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := admit(request, versions()); err == nil {
		t.Error("a request with two million topics passes")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("it took %d MB of memory", n>>20)
	}
}
