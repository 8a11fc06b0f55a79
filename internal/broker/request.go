package broker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/wire"
)

// faults has kfake call adjust for each request, and answer Kafka's errors to what there is not here.
// (A control function could do the first, but kfake keeps a request of each connection for it, for ever.)
func (b *Broker) faults() []kfake.Fault {
	var once sync.Once
	joins := func(req kmsg.Request) bool {
		once.Do(func() {
			b.cfg.Log.Warn("the embedded broker has no consumer groups: read a partition instead, as kcat -C and "+
				"kafka-console-consumer.sh --partition 0 --offset earliest do", "group", fmt.Sprintf("%.100s", req.(*kmsg.JoinGroupRequest).Group))
		})
		return true
	}
	transaction := func(req kmsg.Request) bool { return req.(*kmsg.InitProducerIDRequest).TransactionalID != nil }
	refused := func(err *kerr.Error) kfake.Fault {
		return kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: err, When: func(kmsg.Request) bool { return b.refusal == err }}
	}
	faults := []kfake.Fault{
		{TopLevel: true, When: func(req kmsg.Request) bool { b.adjust(req); return false }},
		{Keys: []kmsg.Key{kmsg.JoinGroup}, TopLevel: true, Err: kerr.GroupAuthorizationFailed, When: joins},
		{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed},
		{Keys: []kmsg.Key{kmsg.OffsetFetch}, TopLevel: true, Err: new(kerr.Error)}, // an empty answer: nothing was ever committed
		{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.TransactionalIDAuthorizationFailed, When: transaction},
		{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.PolicyViolation, When: func(kmsg.Request) bool { return b.ids > maxProducers }},
		refused(kerr.InvalidTopicException),
		refused(kerr.PolicyViolation),
	}
	for i := range faults {
		faults[i].Count = -1 // for ever
	}
	return faults
}

// adjust changes a request to one that does no harm, before kfake does what it asks. kfake calls it
// for one request at a time.
func (b *Broker) adjust(req kmsg.Request) {
	switch req := req.(type) {
	case *kmsg.FetchRequest:
		req.MaxBytes, req.MaxWaitMillis = min(req.MaxBytes, maxFetch), min(req.MaxWaitMillis, maxFetchWait)
		if req.SessionEpoch == 0 { // a new session is declined: in kfake it may grow without a bound
			req.SessionEpoch = -1
		}
	case *kmsg.DescribeConfigsRequest:
		req.Resources = req.Resources[:min(len(req.Resources), maxPartitions+1)] // there are no more
	case *kmsg.DeleteTopicsRequest:
		for _, topic := range req.TopicNames {
			delete(b.partitions, topic)
		}
	case *kmsg.InitProducerIDRequest:
		b.ids++
	case *kmsg.CreateTopicsRequest:
		b.refuseTopics(req)
	case *kmsg.ProduceRequest:
		room := maxRequest
		for _, t := range req.Topics {
			for i := range t.Partitions {
				t.Partitions[i].Records = b.checkBatch(t.Partitions[i].Records, &room)
			}
		}
		b.unseen.Add(int64(maxRequest - room))
	}
}

// refuseTopics sets what is wrong with topics that are to be made, if something is. kfake has no rule
// for names, and a folder is lost to it in which one was too long to be a file's.
func (b *Broker) refuseTopics(req *kmsg.CreateTopicsRequest) {
	illegal := regexp.MustCompile(`^\.{0,2}$|[^a-zA-Z0-9._-]|.{250}`)
	most := map[string]int{"retention.ms": math.MaxInt, "retention.bytes": maxKept, "segment.bytes": segmentBytes, "max.message.bytes": maxBatch}
	wanted, sum := maps.Clone(b.partitions), 0
	b.refusal = nil
	for i := range req.Topics {
		t := &req.Topics[i]
		t.Configs = slices.DeleteFunc(t.Configs, func(c kmsg.CreateTopicsRequestTopicConfig) bool {
			n, err := strconv.Atoi(*cmp.Or(c.Value, new(string)))
			return err != nil || n < 1000 || n > most[c.Name] // it is no bound, or none that others can bear
		})
		wanted[t.Topic] = max(wanted[t.Topic], 1, int(t.NumPartitions), len(t.ReplicaAssignment))
		if illegal.MatchString(t.Topic) {
			b.refusal = kerr.InvalidTopicException
		}
	}
	for _, n := range wanted {
		sum += n
	}
	if sum > maxPartitions {
		b.refusal = kerr.PolicyViolation
	}
	if b.refusal == nil { // what kfake refuses for another reason counts, too, until it is deleted
		b.partitions = wanted
	}
}

// checkBatch returns what kfake may see in place of a batch: the same records, not compressed, with
// the largest timestamp among them, which sarama leaves out. kfake checks no more than the header,
// so a batch that it must refuse gets a header that it does refuse. room is what is left of the bytes
// that one request may become.
//
// Records are kept without compression so that what is small here is nowhere large: not in kfake,
// which decompresses what it searches for a time, and not in a consumer. (Kafka does the same for a
// topic with compression.type=uncompressed.)
func (b *Broker) checkBatch(raw []byte, room *int) []byte {
	const codec, control = 0x07, 0x20
	batch, size, err := wire.ReadBatch(raw)
	if err != nil || size != len(raw) || size > maxBatch {
		return raw // kfake answers MESSAGE_TOO_LARGE or CORRUPT_MESSAGE
	}
	if *room < 0 {
		return nil // CORRUPT_MESSAGE, after which clients try again
	}
	records, err := b.unpacker.Decompress(batch.Records, batch.Attributes&codec)
	if errors.Is(err, wire.ErrTooLarge) {
		*room -= maxBatch
		return make([]byte, maxBatch+1) // MESSAGE_TOO_LARGE: Java's producer splits the batch
	}
	*room -= headerLength + len(records)
	place, newest := int32(0), int64(math.MinInt64)
	err = cmp.Or(err, wire.Walk(records, int(batch.NumRecords), func(r wire.Record) (err error) {
		if newest = max(newest, r.Time); r.Offset != place {
			err = errors.New("a record has another number than its place")
		}
		place++
		return err
	}))
	if err != nil || batch.Attributes&^codec != 0 {
		// Not the records that it promises, or a transaction's or a control batch, or one with the
		// broker's time, for which kfake changes the header and not the checksum: nobody can read it.
		batch.Attributes, records = control, nil // INVALID_RECORD
	}
	if len(b.producers) < maxProducers {
		b.producers[batch.ProducerID] = true
	}
	if !b.producers[batch.ProducerID] { // kfake would remember each of these for ever
		batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = -1, -1, -1
	}
	batch.Attributes &^= codec
	batch.MaxTimestamp = batch.FirstTimestamp + newest
	batch.Records = records
	return wire.AppendBatch(nil, batch)
}
