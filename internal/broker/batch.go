package broker

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/wire"
)

// maxBatch is the largest size of a batch, before and after decompression. It is Kafka's default:
// one megabyte for the records and a little for the header.
const maxBatch = 1<<20 + 12

// produce sends the batches of a Produce request to kfake. It decodes the request itself, because
// kmsg allocates memory for as many topics as a request says it has, up to 32 times its size.
func (b *Broker) produce(version int16, number int32, r kbin.Reader) ([]byte, error) {
	b.producing.Lock()
	defer b.producing.Unlock()
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(version)
	r.NullableString() // the transactional id, which kfake does not get
	req.Acks, req.TimeoutMillis = r.Int16(), r.Int32()
	room := maxRequest
	for range min(r.ArrayLen(), maxPartitions) {
		t := kmsg.ProduceRequestTopic{Topic: r.String()}
		for range min(r.ArrayLen(), maxPartitions) {
			p := kmsg.ProduceRequestTopicPartition{Partition: r.Int32(), Records: r.NullableBytes()}
			p.Records = b.checkBatch(p.Records, &room)
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	if !r.Ok() || len(r.Src) > 0 {
		return nil, fmt.Errorf("a Produce request (version %d) that is broken, or has too many batches", version)
	}
	silent := req.Acks == 0
	if silent {
		req.Acks = 1 // with 0 kfake sends no answer, and ask would wait
	}
	answer, err := b.ask(req, number)
	if b.unseen += maxRequest - room; b.unseen > maxKept/16 {
		b.unseen = 0
		b.trim()
	}
	if silent {
		answer = nil
	}
	return answer, err
}

// checkBatch returns the batch that kfake gets: the same records, not compressed, with the largest
// timestamp among them, which sarama leaves out. kfake checks only the header, so a bad batch gets
// a header that kfake refuses. room is how many bytes the request may still take when decompressed.
//
// Records are stored without compression, so that a small batch becomes large nowhere: not in
// kfake, which decompresses batches to search for a time, and not in a consumer. (Kafka does the
// same for a topic with compression.type=uncompressed.)
func (b *Broker) checkBatch(raw []byte, room *int) []byte {
	batch, size, err := wire.ReadBatch(raw)
	if err != nil || size != len(raw) || size > maxBatch {
		return raw // kfake answers MESSAGE_TOO_LARGE or CORRUPT_MESSAGE
	}
	if *room < 0 {
		return nil // CORRUPT_MESSAGE, after which clients retry
	}
	const codec, control = 0x07, 0x20
	records, err := b.unpacker.Decompress(batch.Records, batch.Attributes&codec)
	if errors.Is(err, wire.ErrTooLarge) {
		*room -= maxBatch
		return make([]byte, maxBatch+1) // MESSAGE_TOO_LARGE: Java's producer splits the batch
	}
	*room -= wire.HeaderLength + len(records)
	next, newest := int32(0), int64(math.MinInt64)
	err = cmp.Or(err, wire.Walk(records, int(batch.NumRecords), func(r wire.Record) (err error) {
		if newest = max(newest, r.Time); r.Offset != next {
			err = errors.New("a record has another number than its place")
		}
		next++
		return err
	}))
	if err != nil || batch.Attributes&^codec != 0 {
		// The records differ from the header, or the batch is a transaction's, a control batch, or one
		// with the broker's time. For that time kfake changes the header and not the checksum: no
		// client can read the batch.
		batch.Attributes, records = control, nil // INVALID_RECORD
	}
	if id := batch.ProducerID - b.firstID; id < 0 || id >= maxProducers {
		// The batch has no producer id of this run. kfake would remember each foreign id for ever.
		batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = -1, -1, -1
	}
	batch.Attributes &^= codec
	batch.MaxTimestamp = batch.FirstTimestamp + newest
	batch.Records = records
	return wire.AppendBatch(make([]byte, 0, wire.HeaderLength+len(records)), batch)
}
