package broker

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const (
	maxOtherRequest = 32 << 10        // without records; a topic's name may have 249 letters
	maxFetch        = 1 << 20         // of records in an answer; a first batch is always sent whole
	maxFetchWait    = 5 * time.Second // for them
	maxProducers    = 1024            // with an id, of whom kfake forgets none by itself
	maxPartitions   = 100             // of all topics
	maxKept         = 64 << 20        // bytes of batches in all partitions together
	segmentBytes    = 1 << 20         // kfake gives memory (or disk) back by whole segments
)

// offered are the requests that this broker takes, each with its newest version. The versions are
// those of Kafka 2.3, the last without tagged fields: kmsg believes the number of tags, and four
// bytes could keep a processor busy for a minute. Clients of today still speak them.
func offered() *kversion.Versions {
	all, offered := kversion.V2_3_0(), new(kversion.Versions)
	for _, key := range []kmsg.Key{
		kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.ApiVersions, kmsg.InitProducerID,
		kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.DescribeConfigs,
		// librdkafka's consumers always have a group; without these, closing one takes 45 s.
		kmsg.FindCoordinator, kmsg.JoinGroup, kmsg.OffsetCommit, kmsg.OffsetFetch,
	} {
		newest, _ := all.LookupMaxKeyVersion(key.Int16())
		offered.SetMaxKeyVersion(key.Int16(), newest)
	}
	offered.SetMaxKeyVersion(kmsg.CreateTopics.Int16(), 4) // kafka-topics.sh needs it; the next has tags
	return offered
}

// answer returns the answer to a request, with its length. After an error the connection ends, as
// with Kafka: such a request has no answer.
func (c *client) answer(request []byte) ([]byte, error) {
	r := kbin.Reader{Src: request}
	key, version, number, id := kmsg.Key(r.Int16()), r.Int16(), r.Int32(), r.NullableString()
	newest, ok := c.offered.LookupMaxKeyVersion(key.Int16())
	if key == kmsg.InitProducerID {
		newest = 4 // sarama sends it without asking which versions there are
	}
	if !r.Ok() || !ok || version < 0 || version > newest && key != kmsg.ApiVersions ||
		len(request) > maxOtherRequest && key != kmsg.Produce {
		return nil, fmt.Errorf("no request that is known here (key %d, version %d, %d bytes)", key, version, len(request))
	}
	name := *cmp.Or(id, new(string))
	c.mu.Lock()
	c.spoke, c.last, c.own = true, time.Now(), c.cfg.Own != "" && strings.HasPrefix(name, c.cfg.Own)
	c.mu.Unlock()
	switch key {
	case kmsg.Produce:
		return c.produce(version, number, r)
	case kmsg.InitProducerID:
		return encode(c.newProducer(version, r.Src), number), nil
	}
	req := kmsg.RequestForKey(key.Int16())
	req.SetVersion(min(version, newest+1)) // of ApiVersions; all that are too new have the same answer
	if version <= newest {
		if err := req.ReadFrom(r.Src); err != nil {
			return nil, err
		}
	}
	resp := req.ResponseKind()
	switch req := req.(type) {
	case *kmsg.FetchRequest:
		req.MaxBytes = min(req.MaxBytes, maxFetch)
		req.MaxWaitMillis = min(req.MaxWaitMillis, int32(maxFetchWait.Milliseconds()))
		if req.SessionEpoch == 0 { // a new session is declined: in kfake it may grow without a bound
			req.SessionEpoch = -1
		}
	case *kmsg.DescribeConfigsRequest:
		req.Resources = req.Resources[:min(len(req.Resources), maxPartitions+1)] // there are no more
	case *kmsg.CreateTopicsRequest:
		c.createTopics(req, resp.(*kmsg.CreateTopicsResponse))
		return encode(resp, number), nil
	case *kmsg.JoinGroupRequest, *kmsg.OffsetCommitRequest, *kmsg.OffsetFetchRequest:
		c.refuseGroup(req, resp, name)
		return encode(resp, number), nil
	}
	return c.ask(req, number)
}

// refuseGroup answers a member of a consumer group. Nobody can join one, and so nothing can be
// committed, and the answer to OffsetFetch stays empty.
func (b *Broker) refuseGroup(req kmsg.Request, resp kmsg.Response, client string) {
	refused := kerr.GroupAuthorizationFailed.Code
	switch resp := resp.(type) {
	case *kmsg.JoinGroupResponse:
		resp.ErrorCode = refused
		b.noGroups.Do(func() {
			b.cfg.Log.Warn("the embedded broker has no consumer groups: read a partition instead, as kcat -C and "+
				"kafka-console-consumer.sh --partition 0 --offset earliest do", "client", client[:min(len(client), 100)])
		})
	case *kmsg.OffsetCommitResponse:
		for _, t := range req.(*kmsg.OffsetCommitRequest).Topics {
			answer := kmsg.OffsetCommitResponseTopic{Topic: t.Topic}
			for _, p := range t.Partitions {
				answer.Partitions = append(answer.Partitions,
					kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: refused})
			}
			resp.Topics = append(resp.Topics, answer)
		}
	}
}

// encode is what kfake does with its own answers.
func encode(resp kmsg.Response, number int32) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(number))
	if resp.IsFlexible() {
		b = append(b, 0) // no tags
	}
	b = resp.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// newProducer gives an idempotent producer its id. The ids go round: with a greater epoch, an id is
// another producer to kfake, and the one that had it before is told so.
func (b *Broker) newProducer(version int16, body []byte) kmsg.Response {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.SetVersion(version)
	n := b.producers.Add(1)
	resp.ProducerID, resp.ProducerEpoch = b.firstID+n%maxProducers, int16(n/maxProducers%math.MaxInt16)
	// Without a transactional id the body begins with a null string, or from version 2 on with the
	// number of tags, 0, and a null string, 0.
	if !bytes.HasPrefix(body, []byte{0xff, 0xff}) && !bytes.HasPrefix(body, []byte{0, 0}) {
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
	}
	return resp
}

func (b *Broker) createTopics(req *kmsg.CreateTopicsRequest, resp *kmsg.CreateTopicsResponse) {
	for _, t := range req.Topics {
		answer := kmsg.NewCreateTopicsResponseTopic()
		answer.Topic = t.Topic
		if err := b.create(t, req.ValidateOnly); err != nil {
			known := kerr.UnknownServerError
			errors.As(err, &known)
			answer.ErrorCode, answer.ErrorMessage = known.Code, kmsg.StringPtr(err.Error())
		}
		resp.Topics = append(resp.Topics, answer)
	}
}

// create makes a topic; a dry run only says whether it could.
func (b *Broker) create(t kmsg.CreateTopicsRequestTopic, dry bool) error {
	n := int(t.NumPartitions)
	if n == -1 {
		n = max(1, len(t.ReplicaAssignment))
	}
	b.topics.Lock()
	defer b.topics.Unlock()
	all, err := b.partitions()
	if err != nil {
		return err
	}
	// kfake has no rule for names, and a folder is lost to it in which one was too long to be a file's.
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	switch {
	case t.Topic == "" || t.Topic == "." || t.Topic == ".." || len(t.Topic) > 249 ||
		strings.ContainsFunc(t.Topic, func(r rune) bool { return !strings.ContainsRune(legal, r) }):
		return fmt.Errorf("%w (it has 1 to 249 letters, digits, '.', '_' and '-')", kerr.InvalidTopicException)
	case b.kfake.TopicInfo(t.Topic) != nil:
		return kerr.TopicAlreadyExists
	case t.ReplicationFactor > 1:
		return fmt.Errorf("%w (there is one broker)", kerr.InvalidReplicationFactor)
	case n < 1:
		return kerr.InvalidPartitions
	case len(all)+n > maxPartitions:
		return fmt.Errorf("%w (the embedded broker has at most %d partitions in all)", kerr.PolicyViolation, maxPartitions)
	case dry:
		return nil
	}
	settings := map[string]string{ // time does not count: a client may write anything for it
		"retention.bytes": fmt.Sprint(maxKept), "retention.ms": "-1", "segment.bytes": fmt.Sprint(segmentBytes),
		"max.message.bytes": fmt.Sprint(maxBatch),
	}
	for _, c := range t.Configs {
		wanted, err := strconv.Atoi(*cmp.Or(c.Value, new(string)))
		most, _ := strconv.Atoi(settings[c.Name])
		if err == nil && wanted > 0 && wanted < most && c.Name != "segment.bytes" { // less may be asked for
			settings[c.Name] = *c.Value
		}
	}
	return b.kfake.CreateTopic(t.Topic, int32(n), settings)
}

// partition is what kfake says of one.
type partition struct {
	topic string
	*kfake.PartitionInfo
}

func (b *Broker) partitions() (all []partition, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(1)
	answer, err := b.ask(req, 0)
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	if err := resp.ReadFrom(answer[8:]); err != nil {
		return nil, err
	}
	for _, t := range resp.Topics {
		for _, p := range b.kfake.PartitionInfos(*t.Topic) {
			all = append(all, partition{*t.Topic, p})
		}
	}
	return all, nil
}

// trim deletes the oldest records of the largest partition, until all together keep maxKept at most.
// kfake's retention is a bound for each: a hundred of them would be too much for a laptop.
func (b *Broker) trim() error {
	b.topics.Lock()
	defer b.topics.Unlock()
	b.kfake.ApplyRetention() // kfake does so by itself for a topic that was made, but not for one loaded
	for {
		all, err := b.partitions()
		if err != nil || len(all) == 0 {
			return err
		}
		sum, largest := int64(0), all[0]
		for _, p := range all {
			if sum += p.NumBytes; p.NumBytes > largest.NumBytes {
				largest = p
			}
		}
		if sum <= maxKept {
			return nil
		}
		eighth := (largest.HighWatermark-largest.LogStartOffset)/8 + 1
		if err := b.kfake.DeleteRecords(largest.topic, largest.Partition, largest.LogStartOffset+eighth); err != nil {
			return err
		}
	}
}
