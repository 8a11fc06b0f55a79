package kafkatest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// parseRequest decodes a request. What it cannot decode, it leaves to Kafka to
// complain about.
func parseRequest(frame []byte) (key kmsg.Key, client string, body kmsg.Request) {
	r := kbin.Reader{Src: frame[4:]}
	key = kmsg.Key(r.Int16())
	version := r.Int16()
	r.Int32() // correlation id
	if id := r.NullableString(); id != nil {
		client = *id
	}
	body = kmsg.RequestForKey(key.Int16())
	if body == nil {
		return key, client, nil
	}
	body.SetVersion(version)
	if body.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if body.ReadFrom(r.Src) != nil {
		return key, client, nil
	}
	return key, client, body
}

// rewrite puts the proxy's addresses in the place of the brokers' in an answer.
func (p *Proxy) rewrite(request kmsg.Request, frame []byte) ([]byte, error) {
	switch request.(type) {
	case *kmsg.MetadataRequest, *kmsg.FindCoordinatorRequest, *kmsg.DescribeClusterRequest:
	default:
		return frame, nil
	}
	response := request.ResponseKind()
	r := kbin.Reader{Src: frame[4:]}
	id := r.Int32()
	if response.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := response.ReadFrom(r.Src); err != nil {
		err = fmt.Errorf("the proxy cannot decode an answer to %s: %w", kmsg.NameForKey(request.Key()), err)
		p.t.Error(err)
		return nil, err
	}
	var err error
	switch r := response.(type) {
	case *kmsg.MetadataResponse:
		for i := range r.Brokers {
			err = errors.Join(err, p.move(&r.Brokers[i].Host, &r.Brokers[i].Port))
		}
	case *kmsg.DescribeClusterResponse:
		for i := range r.Brokers {
			err = errors.Join(err, p.move(&r.Brokers[i].Host, &r.Brokers[i].Port))
		}
	case *kmsg.FindCoordinatorResponse:
		err = p.move(&r.Host, &r.Port)
		for i := range r.Coordinators {
			err = errors.Join(err, p.move(&r.Coordinators[i].Host, &r.Coordinators[i].Port))
		}
	}
	return answer(id, response), err
}

// move replaces a broker's address, unless there is none.
func (p *Proxy) move(host *string, port *int32) error {
	if *host == "" {
		return nil
	}
	addr, err := p.listen(net.JoinHostPort(*host, strconv.Itoa(int(*port))))
	if err != nil {
		return err
	}
	h, n, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	moved, err := strconv.Atoi(n)
	*host, *port = h, int32(moved)
	return err
}

// notLeader makes the answer of a broker that has lost all partitions in question.
func notLeader(frame []byte, request kmsg.Request) ([]byte, error) {
	id := int32(binary.BigEndian.Uint32(frame[8:]))
	code := kerr.NotLeaderForPartition.Code
	switch request := request.(type) {
	case *kmsg.ProduceRequest:
		response := request.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range request.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, code, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
			response.Topics = append(response.Topics, rt)
		}
		return answer(id, response), nil
	case *kmsg.FetchRequest:
		response := request.ResponseKind().(*kmsg.FetchResponse)
		for _, t := range request.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.HighWatermark, rp.RecordBatches = p.Partition, code, -1, []byte{} // Kafka sends no null here
				rt.Partitions = append(rt.Partitions, rp)
			}
			response.Topics = append(response.Topics, rt)
		}
		return answer(id, response), nil
	}
	return nil, fmt.Errorf("the proxy was told to answer NOT_LEADER_OR_FOLLOWER to a %T, which needs no leader", request)
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
