package kafkatest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// readFrame reads one request or answer, and returns it with its length prefix.
func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// parseRequest decodes a request. If it cannot, body is nil, and Kafka reports the error.
func parseRequest(frame []byte) (key kmsg.Key, client string, body kmsg.Request) {
	r := kbin.Reader{Src: frame[4:]}
	key = kmsg.Key(r.Int16())
	version := r.Int16()
	r.Int32() // correlation id
	if id := r.NullableString(); id != nil {
		client = *id
	}
	if body = kmsg.RequestForKey(key.Int16()); body != nil {
		body.SetVersion(version)
		if body.IsFlexible() {
			kmsg.SkipTags(&r)
		}
		if body.ReadFrom(r.Src) != nil {
			body = nil
		}
	}
	return key, client, body
}

// rewrite replaces the brokers' addresses by the proxy's in an answer with metadata.
func (p *Proxy) rewrite(request kmsg.Request, frame []byte) ([]byte, error) {
	if _, ok := request.(*kmsg.MetadataRequest); !ok {
		return frame, nil
	}
	response := request.ResponseKind().(*kmsg.MetadataResponse)
	r := kbin.Reader{Src: frame[4:]}
	id := r.Int32()
	if response.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := response.ReadFrom(r.Src); err != nil {
		p.t.Errorf("the proxy cannot decode an answer: %v", err)
		return nil, err
	}
	for i := range response.Brokers {
		b := &response.Brokers[i]
		addr, err := p.listen(net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
		if err != nil {
			return nil, err
		}
		at := netip.MustParseAddrPort(addr)
		b.Host, b.Port = at.Addr().String(), int32(at.Port())
	}
	return answer(id, response), nil
}

// notLeader makes the answer of a broker that leads none of the requested partitions.
func notLeader(frame []byte, request kmsg.Request) ([]byte, error) {
	id := int32(binary.BigEndian.Uint32(frame[8:]))
	code := kerr.NotLeaderForPartition.Code
	switch request := request.(type) {
	case *kmsg.ProduceRequest:
		response := request.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range request.Topics {
			topic := kmsg.ProduceResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
			for _, p := range t.Partitions {
				topic.Partitions = append(topic.Partitions, kmsg.ProduceResponseTopicPartition{Partition: p.Partition, ErrorCode: code})
			}
			response.Topics = append(response.Topics, topic)
		}
		return answer(id, response), nil
	case *kmsg.FetchRequest:
		response := request.ResponseKind().(*kmsg.FetchResponse)
		for _, t := range request.Topics {
			topic := kmsg.FetchResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
			for _, p := range t.Partitions {
				// Kafka sends no null for records.
				topic.Partitions = append(topic.Partitions, kmsg.FetchResponseTopicPartition{Partition: p.Partition, ErrorCode: code, RecordBatches: []byte{}})
			}
			response.Topics = append(response.Topics, topic)
		}
		return answer(id, response), nil
	}
	return nil, fmt.Errorf("a %T needs no leader", request)
}

// answer encodes a response with its length prefix and header.
func answer(id int32, response kmsg.Response) []byte {
	frame := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(id))
	if response.IsFlexible() && response.Key() != kmsg.ApiVersions.Int16() {
		frame = append(frame, 0) // no tags
	}
	frame = response.AppendTo(frame)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}
