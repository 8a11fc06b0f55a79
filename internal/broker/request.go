package broker

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const (
	maxOtherRequest = 32 << 10        // without records; a topic's name may have 249 letters
	maxFetch        = 1 << 20         // of records in an answer; the first batch is always sent whole
	maxFetchWait    = 5 * time.Second // of a fetch
	maxProducers    = 1024            // with an id; kfake itself forgets none
	maxPartitions   = 100             // of all topics together
	maxKept         = 64 << 20        // bytes of batches in all partitions together
	segmentBytes    = 1 << 20         // kfake frees memory (or disk) by whole segments
)

// offered returns the requests that this broker accepts, each with its newest version. That is the
// last version without tagged fields, which today's clients still speak. InitProducerID has version
// 4, because sarama sends it without asking for the versions.
func offered() *kversion.Versions {
	offered := new(kversion.Versions)
	for key, newest := range map[kmsg.Key]int16{
		kmsg.Produce: 8, kmsg.Fetch: 11, kmsg.ListOffsets: 5, kmsg.Metadata: 8, kmsg.ApiVersions: 2, kmsg.InitProducerID: 4,
		kmsg.CreateTopics: 4, kmsg.DeleteTopics: 3, kmsg.DescribeConfigs: 3,
		// librdkafka's consumers always have a group. Without these, closing a consumer takes 45 s.
		kmsg.FindCoordinator: 2, kmsg.JoinGroup: 5, kmsg.OffsetCommit: 7, kmsg.OffsetFetch: 5,
	} {
		offered.SetMaxKeyVersion(key.Int16(), newest)
	}
	return offered
}

// refuse makes kfake answer requests for missing features with Kafka's errors.
func (b *Broker) refuse() {
	var once sync.Once
	joins := func(req kmsg.Request) bool {
		once.Do(func() {
			b.cfg.Log.Warn("the embedded broker has no consumer groups: read a partition instead, as kcat -C and "+
				"kafka-console-consumer.sh --partition 0 --offset earliest do", "group", fmt.Sprintf("%.100s", req.(*kmsg.JoinGroupRequest).Group))
		})
		return true
	}
	// kfake checks no names. After a name that is too long for a file, kfake can no longer use
	// DATA_DIR.
	illegal := regexp.MustCompile(`^\.{0,2}$|[^a-zA-Z0-9._-]|.{250}`)
	for _, f := range []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.JoinGroup}, TopLevel: true, Err: kerr.GroupAuthorizationFailed, When: joins},
		{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed},
		{Keys: []kmsg.Key{kmsg.OffsetFetch}, TopLevel: true, Err: new(kerr.Error)}, // an empty answer: nothing was ever committed
		{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.PolicyViolation, When: func(kmsg.Request) bool { return b.wanted > maxPartitions }},
		{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.InvalidTopicException, When: func(req kmsg.Request) bool {
			return slices.ContainsFunc(req.(*kmsg.CreateTopicsRequest).Topics, func(t kmsg.CreateTopicsRequestTopic) bool {
				return illegal.MatchString(t.Topic)
			})
		}},
	} {
		f.Count = -1 // for ever
		b.kfake.Fault(f)
	}
}

// answer returns the answer to a request, with its length prefix. After an error there is no
// answer, and the connection ends, as with Kafka.
func (b *Broker) answer(c *client, request []byte) ([]byte, error) {
	r := kbin.Reader{Src: request}
	key, version, number, id := kmsg.Key(r.Int16()), r.Int16(), r.Int32(), r.NullableString()
	newest, ok := b.offered.LookupMaxKeyVersion(key.Int16())
	if !r.Ok() || !ok || version < 0 || version > newest && key != kmsg.ApiVersions ||
		len(request) > maxOtherRequest && key != kmsg.Produce {
		return nil, fmt.Errorf("a request that this broker does not take (key %d, version %d, %d bytes)", key, version, len(request))
	}
	b.clientsMu.Lock()
	c.last, c.own = time.Now(), b.cfg.Own != "" && id != nil && strings.HasPrefix(*id, b.cfg.Own)
	b.clientsMu.Unlock()
	if key == kmsg.Produce {
		return b.produce(version, number, r)
	}
	req := kmsg.RequestForKey(key.Int16())
	req.SetVersion(min(version, newest+1)) // only ApiVersions may be newer; all newer versions get the same answer
	if version <= newest {
		if req.IsFlexible() {
			kmsg.SkipTags(&r)
		}
		if err := req.ReadFrom(r.Src); err != nil {
			return nil, err
		}
	}
	switch req := req.(type) {
	case *kmsg.InitProducerIDRequest:
		return encode(b.newProducer(req), number), nil
	case *kmsg.FetchRequest:
		req.MaxBytes = min(req.MaxBytes, maxFetch)
		req.MaxWaitMillis = min(req.MaxWaitMillis, int32(maxFetchWait.Milliseconds()))
		if req.SessionEpoch == 0 { // declines a new fetch session: in kfake it may grow without limit
			req.SessionEpoch = -1
		}
	case *kmsg.DescribeConfigsRequest:
		req.Resources = req.Resources[:min(len(req.Resources), maxPartitions+1)] // no more topics and brokers exist
	case *kmsg.CreateTopicsRequest:
		b.topics.Lock()
		defer b.topics.Unlock()
		b.limitTopics(req)
	}
	answer, err := b.ask(req, number)
	if err != nil || key != kmsg.Metadata && key != kmsg.FindCoordinator {
		return answer, err
	}
	return advertise(c.LocalAddr().(*net.TCPAddr), req.ResponseKind(), number, answer)
}

// encode returns the answer to the request with this number, with its length prefix.
func encode(resp kmsg.Response, number int32) []byte {
	answer := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(number))
	if resp.IsFlexible() {
		answer = append(answer, 0) // no tags
	}
	answer = resp.AppendTo(answer)
	binary.BigEndian.PutUint32(answer, uint32(len(answer)-4))
	return answer
}

// advertise puts the address at which the client has reached this broker into an answer. A machine
// may have several addresses, and kfake knows none of them.
func advertise(addr *net.TCPAddr, resp kmsg.Response, number int32, answer []byte) ([]byte, error) {
	err := resp.ReadFrom(answer[8:]) // after length and number
	host, port := addr.IP.String(), int32(addr.Port)
	switch resp := resp.(type) {
	case *kmsg.MetadataResponse:
		for i := range resp.Brokers {
			resp.Brokers[i].Host, resp.Brokers[i].Port = host, port
		}
	case *kmsg.FindCoordinatorResponse:
		resp.Host, resp.Port = host, port
	}
	return encode(resp, number), err
}

// newProducer gives an idempotent producer its id. Ids are reused, with a greater epoch. To kfake
// that is a new producer, and the producer that had the id before gets an error.
func (b *Broker) newProducer(req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	n := b.producers.Add(1)
	resp.ProducerID, resp.ProducerEpoch = b.firstID+n%maxProducers, int16(n/maxProducers%math.MaxInt16)
	if req.TransactionalID != nil {
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
	}
	return resp
}

// settings are those of every topic. Retention ignores time, because a client may write any time.
func settings() map[string]string {
	return map[string]string{"retention.bytes": fmt.Sprint(maxKept), "retention.ms": "-1", "segment.bytes": fmt.Sprint(segmentBytes),
		"max.message.bytes": fmt.Sprint(maxBatch)}
}

// limitTopics counts the partitions after the request, and gives the topics their settings. Two of
// the settings may be lower if the client wants that.
func (b *Broker) limitTopics(req *kmsg.CreateTopicsRequest) {
	b.wanted = len(b.partitions())
	for i := range req.Topics {
		t := &req.Topics[i]
		b.wanted += max(1, int(t.NumPartitions), len(t.ReplicaAssignment))
		if t.NumPartitions < -1 {
			t.NumPartitions = 0 // kfake refuses 0, but takes each negative number for the default
		}
		if t.ReplicationFactor < 2 {
			t.ReplicationFactor = -1
		}
		given := settings()
		for _, c := range t.Configs {
			most := map[string]int{"retention.bytes": maxKept, "max.message.bytes": maxBatch}[c.Name]
			if n, err := strconv.Atoi(*cmp.Or(c.Value, new(string))); err == nil && 0 < n && n < most {
				given[c.Name] = *c.Value
			}
		}
		t.Configs = nil
		for name, value := range given {
			t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: &value})
		}
	}
}

type partition struct {
	topic string
	*kfake.PartitionInfo
}

// partitions returns all partitions, or none when the broker ends.
func (b *Broker) partitions() (all []partition) {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(1)
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	if answer, err := b.ask(req, 0); err != nil || resp.ReadFrom(answer[8:]) != nil {
		return nil
	}
	for _, t := range resp.Topics {
		for _, p := range b.kfake.PartitionInfos(*t.Topic) {
			all = append(all, partition{*t.Topic, p})
		}
	}
	return all
}

// trim deletes the oldest records of the largest partition, until all partitions together have at
// most maxKept. kfake's retention limits each partition: a hundred are too much for a laptop.
func (b *Broker) trim() {
	b.kfake.ApplyRetention() // kfake itself does this for a topic that was made, but not for a loaded one
	for {
		sum, largest := int64(0), partition{PartitionInfo: new(kfake.PartitionInfo)}
		for _, p := range b.partitions() {
			if sum += p.NumBytes; p.NumBytes > largest.NumBytes {
				largest = p
			}
		}
		eighth := (largest.HighWatermark-largest.LogStartOffset)/8 + 1
		if sum <= maxKept || b.kfake.DeleteRecords(largest.topic, largest.Partition, largest.LogStartOffset+eighth) != nil {
			return
		}
	}
}
