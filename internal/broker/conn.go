package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// offered are the requests that this broker takes, each with its newest version: the last without
// tagged fields, since kmsg believes the number of tags, and four bytes could keep a processor busy
// for a minute. Clients of today still speak them. sarama sends version 4 of InitProducerID without
// asking which versions there are.
func offered() *kversion.Versions {
	offered := new(kversion.Versions)
	for key, newest := range map[kmsg.Key]int16{
		kmsg.Produce: 8, kmsg.Fetch: 11, kmsg.ListOffsets: 5, kmsg.Metadata: 8, kmsg.ApiVersions: 2, kmsg.InitProducerID: 4,
		kmsg.CreateTopics: 4, kmsg.DeleteTopics: 3, kmsg.DescribeConfigs: 3,
		// librdkafka's consumers always have a group; without these, closing one takes 45 s.
		kmsg.FindCoordinator: 2, kmsg.JoinGroup: 5, kmsg.OffsetCommit: 7, kmsg.OffsetFetch: 5,
	} {
		offered.SetMaxKeyVersion(key.Int16(), newest)
	}
	return offered
}

// listener is the listener that kfake has.
type listener struct {
	net.Listener
	b *Broker
}

// Addr is what kfake tells clients.
func (l listener) Addr() net.Addr { return l.b.addr(l.b.cfg.Host) }

// conn is one connection. kfake reads from it only requests that were checked.
type conn struct {
	net.Conn
	b    *Broker
	rest []byte    // of a request that kfake is reading
	own  bool      // its client id begins with Config.Own
	last time.Time // when it sent its newest request; zero before the first
}

// Accept returns the next connection. If there are too many, one goes: the one that has been silent
// longest, those first that never sent a request, and the new one if all others are the server's own.
func (l listener) Accept() (net.Conn, error) {
	<-l.b.ready
	accepted, err := l.Listener.Accept()
	for ; err != nil; accepted, err = l.Listener.Accept() {
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond) // there is no free file descriptor, for one
	}
	c := &conn{Conn: accepted, b: l.b}
	c.SetReadDeadline(time.Now().Add(requestTimeout))
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if len(l.b.conns) >= maxConns {
		victim := c
		for o := range l.b.conns {
			if !o.own && (victim == c || o.last.Before(victim.last)) {
				victim = o
			}
		}
		victim.Conn.Close()
		delete(l.b.conns, victim)
	}
	l.b.conns[c] = struct{}{}
	return c, nil
}

func (c *conn) Close() error {
	c.b.mu.Lock()
	delete(c.b.conns, c)
	c.b.mu.Unlock()
	return c.Conn.Close()
}

// Write sends an answer.
func (c *conn) Write(answer []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(answerTimeout))
	return c.Conn.Write(answer)
}

// Read reads a request. After an error kfake ends the connection: the client's fault.
func (c *conn) Read(p []byte) (n int, err error) {
	if len(c.rest) == 0 {
		if c.rest, err = c.next(); err != nil {
			c.b.cfg.Log.Debug("the embedded broker ends a connection", "remote", c.RemoteAddr().String(), "err", err)
			return 0, err
		}
	}
	n = copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// next waits for a request and returns it, with its length, if kfake may have it.
func (c *conn) next() ([]byte, error) {
	if c.b.unseen.Load() > segmentBytes {
		c.b.unseen.Store(0)
		c.b.kfake.ApplyRetention() // by itself kfake does so every hour, and only for some topics
	}
	request := make([]byte, 4)
	if _, err := io.ReadFull(c.Conn, request); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(request)
	if length > maxRequest {
		return nil, fmt.Errorf("a request of %d bytes, the largest allowed has %d", length, maxRequest)
	}
	c.SetReadDeadline(time.Now().Add(requestTimeout))
	request = append(request, make([]byte, length)...)
	if _, err := io.ReadFull(c.Conn, request[4:]); err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Time{}) // it may be silent for as long as it likes now
	r := kbin.Reader{Src: request[4:]}
	key, version, _, id := kmsg.Key(r.Int16()), r.Int16(), r.Int32(), r.NullableString()
	newest, known := c.b.offered.LookupMaxKeyVersion(key.Int16())
	switch {
	case r.Ok() && key == kmsg.ApiVersions && version > newest: // all that are too new have the same answer
		request = append(request[:len(request)-len(r.Src)], 0, 1, 1, 0) // without tags and strings
		binary.BigEndian.PutUint32(request, uint32(len(request)-4))
		binary.BigEndian.PutUint16(request[6:], uint16(newest+1))
	case !r.Ok() || !known || version < 0 || version > newest || length > maxOther && key != kmsg.Produce || !decodable(key, version, r):
		return nil, fmt.Errorf("no request that is known here (key %d, version %d, %d bytes)", key, version, length)
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.last, c.own = time.Now(), c.b.cfg.Own != "" && id != nil && strings.HasPrefix(*id, c.b.cfg.Own)
	return request, nil
}

// decodable says whether kmsg may decode a request's body. It takes memory for whatever the length of
// an array says, too much if the request is large, and time for whatever a number of tags says.
func decodable(key kmsg.Key, version int16, r kbin.Reader) bool {
	switch {
	case key == kmsg.Produce:
		r.NullableString() // a transaction
		r.Span(2 + 4)      // acks and timeout
		for range min(r.ArrayLen(), maxPartitions) {
			r.Span(int(r.Int16())) // a topic
			for range min(r.ArrayLen(), maxPartitions) {
				r.Span(4) // a partition
				r.NullableBytes()
			}
		}
		return r.Ok() && len(r.Src) == 0
	case key == kmsg.InitProducerID && version >= 2:
		tags := r.Int8()
		r.CompactNullableString() // a transaction
		r.Span(map[int16]int{2: 4, 3: 14, 4: 14}[version])
		return tags == 0 && bytes.Equal(r.Src, []byte{0})
	}
	return true
}
