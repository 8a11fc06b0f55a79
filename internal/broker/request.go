package broker

import (
	"errors"
	"fmt"
	"time"

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

	// maxFetch bounds the answer to one fetch, which kfake builds in memory,
	// and maxFetchWait how long kfake remembers a fetch that nobody waits for.
	maxFetch     = 8 * maxMessageBytes
	maxFetchWait = time.Minute
)

// versions are the requests that this broker knows, each with its newest
// version, as kfake is to announce them: what producers, consumers, groups of
// consumers and the tools that make and describe topics send. kfake knows more
// (transactions, share groups, users, quotas, settings at run time), which a chat
// does not need and which would be more to keep safe.
//
// The versions are those of Kafka 2.3, the last ones without tagged fields:
// kmsg believes the number of tags, and so four bytes could keep a processor
// busy for a minute. All clients from then until now still speak them.
func versions() *kversion.Versions {
	all, known := kversion.V2_3_0(), new(kversion.Versions)
	for _, key := range []kmsg.Key{
		kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetForLeaderEpoch,
		kmsg.FindCoordinator, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.OffsetCommit,
		kmsg.OffsetFetch, kmsg.DescribeGroups, kmsg.ListGroups, kmsg.DeleteGroups,
		kmsg.ApiVersions, kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.CreatePartitions, kmsg.DeleteRecords, kmsg.DescribeConfigs,
	} {
		newest, _ := all.LookupMaxKeyVersion(key.Int16())
		known.SetMaxKeyVersion(key.Int16(), newest)
	}
	// The one exception: sarama does not ask, and a client of 2.5 or later
	// sends this one with (no) tags. See initProducerID.
	known.SetMaxKeyVersion(kmsg.InitProducerID.Int16(), 4)
	return known
}

// admit returns the request that kfake may see in place of request (which has
// no length prefix, and which it may change), or why there is none.
func admit(request []byte, known *kversion.Versions) ([]byte, error) {
	r := kbin.Reader{Src: request}
	key, version := kmsg.Key(r.Int16()), r.Int16()
	r.Int32() // correlation id
	r.NullableString()
	if !r.Ok() {
		return nil, errors.New("a request without a header")
	}
	header, body := request[:len(request)-len(r.Src)], r.Src
	newest, ok := known.LookupMaxKeyVersion(key.Int16())
	if !ok {
		return nil, fmt.Errorf("api key %d, which this broker does not know", key)
	}
	if key == kmsg.ApiVersions && version > newest {
		return apiVersions(header), nil
	}
	if version < 0 || version > newest {
		return nil, fmt.Errorf("%s version %d, this broker knows up to %d", kmsg.NameForKey(key.Int16()), version, newest)
	}
	if key != kmsg.Produce && len(request) > maxOtherRequest {
		return nil, fmt.Errorf("a %s request of %d bytes, the largest allowed has %d", kmsg.NameForKey(key.Int16()), len(request), maxOtherRequest)
	}
	admitted, err := admitBody(key, version, body)
	if err != nil {
		return nil, fmt.Errorf("a broken %s request (version %d): %w", kmsg.NameForKey(key.Int16()), version, err)
	}
	if key == kmsg.Produce { // large, and changed in place
		return request, nil
	}
	return append(header[:len(header):len(header)], admitted...), nil
}

// admitBody returns what kfake may see in place of what follows a request's
// header: what was understood of it, within this broker's bounds.
func admitBody(key kmsg.Key, version int16, body []byte) ([]byte, error) {
	req := kmsg.RequestForKey(key.Int16())
	req.SetVersion(version)
	switch req := req.(type) {
	case *kmsg.InitProducerIDRequest:
		if req.IsFlexible() {
			return initProducerID(req, body)
		}
	case *kmsg.ProduceRequest:
		return body, checkProduce(req, body)
	}
	if err := req.ReadFrom(body); err != nil {
		return nil, err
	}
	understood := len(req.AppendTo(nil))
	switch req := req.(type) {
	case *kmsg.FetchRequest:
		req.MaxBytes = min(req.MaxBytes, maxFetch)
		req.MaxWaitMillis = min(req.MaxWaitMillis, int32(maxFetchWait.Milliseconds()))
	case *kmsg.CreateTopicsRequest:
		bound(req)
	case *kmsg.CreatePartitionsRequest:
		for i := range req.Topics {
			if t := &req.Topics[i]; t.Count > maxPartitions {
				t.Count = 0 // the broker answers INVALID_PARTITIONS
			}
		}
	}
	if understood != len(body) {
		return nil, fmt.Errorf("it has %d bytes, its contents %d", len(body), understood)
	}
	return req.AppendTo(nil), nil
}

// apiVersions returns the request for what the broker knows that a client has
// sent in a version from after its time, with an empty body. The broker answers
// any such version in the same way, and the client asks again with an older one.
func apiVersions(header []byte) []byte {
	req := kmsg.NewPtrApiVersionsRequest()
	req.SetVersion(3)
	request := append([]byte{0, byte(kmsg.ApiVersions), 0, byte(req.GetVersion())}, header[4:]...)
	return req.AppendTo(append(request, 0)) // no tags
}

// initProducerID decodes a version with tags, and forgets them.
func initProducerID(req *kmsg.InitProducerIDRequest, body []byte) ([]byte, error) {
	r := kbin.Reader{Src: body}
	skipTags(&r)
	req.TransactionalID = r.CompactNullableString()
	req.TransactionTimeoutMillis = r.Int32()
	if req.Version >= 3 {
		req.ProducerID, req.ProducerEpoch = r.Int64(), r.Int16()
	}
	skipTags(&r)
	if err := complete(&r); err != nil {
		return nil, err
	}
	return req.AppendTo([]byte{0}), nil
}

// skipTags is kmsg.SkipTags, except that it ends with the data.
func skipTags(r *kbin.Reader) {
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		r.Uvarint()
		r.Span(int(r.Uvarint()))
	}
}

// complete says whether r has read all of its bytes, and no more than those.
func complete(r *kbin.Reader) error {
	if n := len(r.Src); n > 0 {
		return fmt.Errorf("%d bytes too many", n)
	}
	return r.Complete()
}
