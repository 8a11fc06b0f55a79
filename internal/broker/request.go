package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const (
	// maxRequest holds sixteen full batches: a line of 1,000,000 bytes and a
	// batch of sarama's or Java's default size (1 MB) pass, and so do those of
	// a topic with several partitions, which travel together.
	maxRequest = 16 * maxMessageBytes

	// maxOtherRequest is for the requests that carry no records. kmsg takes up
	// to about a hundred bytes of memory for each byte that an array announces,
	// so this bounds what a small lie costs.
	maxOtherRequest = 64 << 10

	// maxFetch bounds the answer to one fetch, which kfake builds in memory.
	maxFetch = 8 * maxMessageBytes

	maxProduceTopics     = 100
	maxProducePartitions = maxPartitions
)

// apiKeys are the requests that this broker knows: what producers, consumers,
// groups of consumers and the tools that make and describe topics send. kfake
// knows more (transactions, share groups, users, quotas, settings at run time),
// which a chat does not need and which would be more to keep safe.
func apiKeys() []kmsg.Key {
	return []kmsg.Key{
		kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetForLeaderEpoch, kmsg.InitProducerID,
		kmsg.FindCoordinator, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.OffsetCommit,
		kmsg.OffsetFetch, kmsg.DescribeGroups, kmsg.ListGroups, kmsg.DeleteGroups,
		kmsg.ApiVersions, kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.CreatePartitions, kmsg.DeleteRecords,
		kmsg.DescribeConfigs, kmsg.DescribeCluster, kmsg.DescribeTopicPartitions,
	}
}

// versions are the api keys with the newest version of each, as kfake is to
// announce them.
func versions() *kversion.Versions {
	known, allowed := kversion.Stable(), new(kversion.Versions)
	for _, key := range apiKeys() {
		if v, ok := known.LookupMaxKeyVersion(key.Int16()); ok {
			allowed.SetMaxKeyVersion(key.Int16(), v)
		}
	}
	return allowed
}

// admit returns the request that kfake may see in place of request (which has
// no length prefix, and which it may change), or why there is none.
func admit(request []byte, known *kversion.Versions) ([]byte, error) {
	r := kbin.Reader{Src: request}
	key, version := r.Int16(), r.Int16()
	r.Int32() // correlation id
	r.NullableString()
	if !r.Ok() {
		return nil, errors.New("a request without a header")
	}
	newest, ok := known.LookupMaxKeyVersion(key)
	if !ok {
		return nil, fmt.Errorf("api key %d, which this broker does not know", key)
	}
	// ApiVersions is how a newer client asks what there is: it is answered in
	// any version.
	if version < 0 || version > newest && key != kmsg.ApiVersions.Int16() {
		return nil, fmt.Errorf("%s version %d, this broker knows up to %d", kmsg.NameForKey(key), version, newest)
	}
	if key != kmsg.Produce.Int16() && len(request) > maxOtherRequest {
		return nil, fmt.Errorf("a %s request of %d bytes, the largest allowed has %d", kmsg.NameForKey(key), len(request), maxOtherRequest)
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
		if !r.Ok() {
			return nil, fmt.Errorf("a %s request with a broken header", kmsg.NameForKey(key))
		}
	}
	header := request[:len(request)-len(r.Src)]
	if err := decode(req, r.Src); err != nil {
		return nil, fmt.Errorf("a %s request that does not decode: %w", kmsg.NameForKey(key), err)
	}
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		return request, checkProduce(req)
	case *kmsg.FetchRequest:
		if req.MaxBytes <= maxFetch {
			return request, nil
		}
		req.MaxBytes = maxFetch
	case *kmsg.CreateTopicsRequest:
		bound(req)
	case *kmsg.CreatePartitionsRequest:
		for i := range req.Topics {
			if t := &req.Topics[i]; t.Count > maxPartitions {
				t.Count = 0 // the broker answers INVALID_PARTITIONS
			}
		}
	default:
		return request, nil
	}
	return req.AppendTo(header[:len(header):len(header)]), nil
}

// decode is req.ReadFrom, for a body of any origin.
func decode(req kmsg.Request, body []byte) error {
	if p, ok := req.(*kmsg.ProduceRequest); ok {
		if err := countProduce(p, body); err != nil {
			return err
		}
	}
	return req.ReadFrom(body)
}

// countProduce refuses a Produce request whose arrays announce more than it may
// hold, before memory is taken for them: only this request may be large.
func countProduce(req *kmsg.ProduceRequest, body []byte) error {
	r := kbin.Reader{Src: body}
	flexible := req.IsFlexible()
	count := func() int {
		if flexible {
			return int(r.CompactArrayLen())
		}
		return int(r.ArrayLen())
	}
	tags := func() {
		if flexible {
			kmsg.SkipTags(&r)
		}
	}
	if flexible {
		r.CompactNullableString()
	} else if req.Version >= 3 {
		r.NullableString()
	}
	r.Int16()
	r.Int32()
	topics := count()
	if topics > maxProduceTopics {
		return fmt.Errorf("%d topics", topics)
	}
	for range topics {
		switch {
		case req.Version >= 13:
			r.Uuid()
		case flexible:
			r.CompactString()
		default:
			_ = r.String()
		}
		partitions := count()
		if partitions > maxProducePartitions {
			return fmt.Errorf("%d partitions of one topic", partitions)
		}
		for range partitions {
			r.Int32()
			if flexible {
				r.CompactNullableBytes()
			} else {
				r.NullableBytes()
			}
			tags()
		}
		tags()
	}
	tags()
	return r.Complete()
}

// checkProduce looks into the batches: kfake believes their record count, and
// would later decode the records without looking.
func checkProduce(req *kmsg.ProduceRequest) error {
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if err := checkBatch(p.Records); err != nil {
				return fmt.Errorf("a broken batch for partition %d: %w", p.Partition, err)
			}
		}
	}
	return nil
}

// Where a batch (version 2) has these fields; the checksum is over everything
// from checksummed on.
const (
	lengthEnd      = 12
	crcAt          = 17
	checksummed    = 21
	maxTimestampAt = 35
)

// checkBatch checks one batch, and puts the largest timestamp of its records
// where that belongs, as a real broker does: sarama leaves -1 there, and then
// no record could be found by its time.
func checkBatch(b []byte) error {
	var batch kmsg.RecordBatch
	if err := batch.ReadFrom(b); err != nil {
		return err
	}
	if batch.Magic != 2 {
		return nil // the broker refuses it, with an answer that says so
	}
	if int(batch.Length) != len(b)-lengthEnd {
		return fmt.Errorf("%d bytes, but it says %d", len(b)-lengthEnd, batch.Length)
	}
	if batch.NumRecords < 1 || batch.LastOffsetDelta != batch.NumRecords-1 {
		return fmt.Errorf("%d records up to offset %d", batch.NumRecords, batch.LastOffsetDelta)
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if batch.CRC != int32(crc32.Checksum(b[checksummed:], castagnoli)) {
		return errors.New("its checksum is wrong")
	}
	if batch.Attributes&7 != 0 {
		return nil
	}
	newest, err := checkRecords(batch.Records, int(batch.NumRecords))
	if err != nil {
		return err
	}
	if newest += batch.FirstTimestamp; newest != batch.MaxTimestamp {
		binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(newest))
		binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[checksummed:], castagnoli))
	}
	return nil
}

// checkRecords walks n records, which must be all that there is, and returns
// the largest timestamp among them (a difference to the batch's first one).
func checkRecords(records []byte, n int) (newest int64, err error) {
	all := kbin.Reader{Src: records}
	for i := range n {
		r := kbin.Reader{Src: all.Span(int(all.Varint()))}
		r.Int8() // attributes
		timestamp := r.Varlong()
		delta := r.Varint()
		r.VarintBytes() // key
		r.VarintBytes() // value
		for range max(r.VarintArrayLen(), 0) {
			r.VarintBytes() // key
			r.VarintBytes() // value
		}
		if err := r.Complete(); err != nil || !all.Ok() {
			return 0, fmt.Errorf("record %d is cut or too long", i)
		}
		if int(delta) != i {
			return 0, fmt.Errorf("record %d says it is number %d", i, delta)
		}
		if i == 0 || timestamp > newest {
			newest = timestamp
		}
	}
	return newest, all.Complete()
}
