package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/wire"
)

// maxBatch is what a batch may have before and after decompression, Kafka's own default: one
// megabyte for the records and a little for the header.
const maxBatch = 1<<20 + 12

// Where a batch (of version 2) has these; its checksum is over everything from checksummed on.
const (
	headerLength = 61
	lengthEnd    = 12
	crcAt        = 17
	checksummed  = 21
)

// produce hands the batches of a Produce request to kfake. It decodes the request itself, because
// kmsg takes memory for whatever the length of an array says.
func (c *client) produce(version int16, number int32, r kbin.Reader) ([]byte, error) {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(version)
	r.NullableString() // a transaction, of which kfake is not told
	req.Acks, req.TimeoutMillis = r.Int16(), r.Int32()
	room, many := maxRequest, 2*maxPartitions
	for range r.ArrayLen() {
		t := kmsg.NewProduceRequestTopic()
		t.Topic = r.String()
		for range r.ArrayLen() {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records = r.Int32(), r.NullableBytes()
			if many--; many < 0 || !r.Ok() {
				break
			}
			p.Records = c.checkBatch(p.Records, &room)
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
		if many--; many < 0 || !r.Ok() {
			break
		}
	}
	if newest, _ := c.offered.LookupMaxKeyVersion(req.Key()); version > newest || many < 0 || !r.Ok() {
		return nil, fmt.Errorf("a Produce request that is broken, or too new (version %d), or has too many batches", version)
	}
	silent := req.Acks == 0
	if silent {
		req.Acks = 1 // kfake has no answer otherwise, and so no end
	}
	answer, err := c.ask(req, number)
	if err == nil && c.unseen.Add(int64(maxRequest-room)) > maxKept/16 {
		c.unseen.Store(0)
		err = c.trim()
	}
	if silent {
		answer = nil
	}
	return answer, err
}

// checkBatch returns what kfake may see in place of a batch: the same records, not compressed, with
// the largest timestamp among them, which sarama leaves out. kfake checks no more than the header,
// so a batch that it must refuse gets a header that it does refuse. room is what is left of the
// bytes that one request may become.
//
// Records are kept without compression so that what is small here is nowhere large: not in kfake,
// which decompresses what it searches for a time, and not in a consumer. (Kafka does the same for a
// topic with compression.type=uncompressed.)
func (c *client) checkBatch(b []byte, room *int) []byte {
	var batch kmsg.RecordBatch
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if len(b) > maxBatch || batch.ReadFrom(b) != nil || batch.Magic != 2 || int(batch.Length) != len(b)-lengthEnd ||
		uint32(batch.CRC) != crc32.Checksum(b[checksummed:], castagnoli) {
		return b // kfake answers MESSAGE_TOO_LARGE or CORRUPT_MESSAGE
	}
	const codec, control = 0x07, 0x20
	records, err := batch.Records, error(nil)
	if batch.Attributes&codec != 0 {
		c.takeTurn()
		d := wire.Decompressor{Max: maxBatch - headerLength}
		records, err = d.Decompress(records, batch.Attributes&codec)
	}
	if *room -= headerLength + len(records); *room < 0 || errors.Is(err, wire.ErrTooLarge) {
		return make([]byte, maxBatch+1) // MESSAGE_TOO_LARGE: Java's producer splits the batch
	}
	var newest int64
	if err == nil {
		newest, err = checkRecords(records, int(batch.NumRecords))
	}
	if err != nil || batch.Attributes&^codec != 0 || batch.LastOffsetDelta != batch.NumRecords-1 {
		// A transaction's or a control batch, one with the broker's time (for which kfake changes the
		// header and not the checksum, so that nobody can read it), or not the records it promises.
		batch.Attributes, records = control, nil // INVALID_RECORD
	}
	if id := batch.ProducerID - c.firstID; id < 0 || id >= maxProducers {
		// Without an id, or one that an earlier run gave: kfake would remember each of these for ever.
		batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = -1, -1, -1
	}
	batch.Attributes &^= codec
	batch.MaxTimestamp = batch.FirstTimestamp + newest
	batch.Records, batch.Length = records, int32(headerLength-lengthEnd+len(records))
	b = batch.AppendTo(make([]byte, 0, headerLength+len(records)))
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[checksummed:], castagnoli))
	return b
}

// checkRecords walks n records, which must be all that there is, and returns the largest timestamp
// among them (as a difference to the batch's first one).
func checkRecords(records []byte, n int) (newest int64, err error) {
	all := kbin.Reader{Src: records}
	for i := range n {
		r := kbin.Reader{Src: all.Span(int(all.Varint()))}
		r.Int8() // attributes
		timestamp, number := r.Varlong(), r.Varint()
		r.VarintBytes() // key
		r.VarintBytes() // value
		for range r.VarintArrayLen() {
			r.VarintBytes() // header's key
			r.VarintBytes() // header's value
		}
		if !all.Ok() || !r.Ok() || len(r.Src) > 0 || int(number) != i {
			return 0, fmt.Errorf("record %d is broken", i)
		}
		if i == 0 || timestamp > newest {
			newest = timestamp
		}
	}
	if n < 1 || len(all.Src) > 0 {
		return 0, errors.New("more or fewer records than promised")
	}
	return newest, nil
}
