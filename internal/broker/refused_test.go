package broker

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// frame puts the length in front of a request.
func frame(parts ...[]byte) []byte {
	b := bytes.Join(parts, nil)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func header(key, version int16) []byte {
	return []byte{byte(key >> 8), byte(key), byte(version >> 8), byte(version), 0, 0, 0, 1, 0xff, 0xff}
}

// badBytes are what must cost a client its connection, and nobody else anything.
func badBytes() map[string][]byte {
	many := []byte{0x7f, 0xff, 0xff, 0xff}
	join := kmsg.NewPtrJoinGroupRequest()
	join.SetVersion(6)
	return map[string][]byte{
		"http":                           []byte("GET / HTTP/1.1\r\nHost: localhost:9092\r\n\r\n"),
		"http post":                      []byte("POST / HTTP/1.1\r\nHost: localhost:9092\r\nContent-Length: 5\r\n\r\nhello"),
		"tls":                            []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		"fourteen wild bytes":            frame([]byte{0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
		"two gigabytes":                  {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"four gigabytes":                 {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"a little more than allowed":     binary.BigEndian.AppendUint32(nil, maxRequest+1),
		"nothing":                        {0, 0, 0, 0},
		"half a header":                  frame([]byte{0, 3, 0, 1}),
		"negative key":                   frame(header(-1, 0)),
		"unknown version":                frame(header(0, 1000)),
		"negative version":               frame(header(3, -1)),
		"a version with tags":            kmsg.NewRequestFormatter().AppendRequest(nil, join, 1),
		"cut body":                       frame(header(1, 11), []byte{1, 2, 3}),
		"an array that is not there":     frame(header(3, 1), many),
		"topics that are not there":      frame(header(0, 7), []byte{0xff, 0xff, 0, 1, 0, 0, 0, 0}, many),
		"two million topics":             frame(header(0, 7), []byte{0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0x1e, 0x84, 0x80}, make([]byte, 6*2_000_000)),
		"a long request without records": frame(header(3, 1), binary.BigEndian.AppendUint32(nil, 20_000), make([]byte, 40_000)),
		"settings at run time":           frame(header(kmsg.AlterConfigs.Int16(), 0), make([]byte, 8)),
		"a transaction's partition":      frame(header(kmsg.AddPartitionsToTxn.Int16(), 0), make([]byte, 20)),
	}
}

func TestBadBytesEndTheirConnectionOnly(t *testing.T) {
	t.Parallel()
	b := start(t, Config{Topic: "fuzz"})
	other := dial(t, b.Addr())
	for name, sent := range badBytes() {
		t.Run(name, func(t *testing.T) {
			w := dial(t, b.Addr())
			w.Write(sent)
			w.closed()
		})
		other.newest("fuzz")
	}
}

// What has an error in the protocol gets that error, and the connection lives on.
func TestKafkasErrors(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b := start(t, Config{Topic: "chat", Log: slog.New(slog.NewTextHandler(&log, nil))})
	w := dial(t, b.Addr())

	transaction := "payments"
	begin := kmsg.NewPtrInitProducerIDRequest()
	begin.TransactionalID = &transaction
	for version := range int16(5) {
		if code := w.ask(begin, version).(*kmsg.InitProducerIDResponse).ErrorCode; code != kerr.TransactionalIDAuthorizationFailed.Code {
			t.Errorf("a transaction (version %d): %v", version, kerr.ErrorForCode(code))
		}
	}

	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey = "readers"
	if code := w.ask(find, 2).(*kmsg.FindCoordinatorResponse).ErrorCode; code != 0 {
		t.Errorf("FindCoordinator: %v", kerr.ErrorForCode(code)) // with an error, librdkafka's Close takes 45 s
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = "readers", "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}, {Name: "range"}} // two of a name ended the process
	for version := range int16(6) {
		if code := w.ask(join, version).(*kmsg.JoinGroupResponse).ErrorCode; code != kerr.GroupAuthorizationFailed.Code {
			t.Errorf("JoinGroup version %d: %v", version, kerr.ErrorForCode(code))
		}
	}
	if n := strings.Count(log.String(), "no consumer groups"); n < 1 || n > 2 || !strings.Contains(log.String(), "client=wire") {
		t.Errorf("the log says so %d times: %s", n, &log)
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group = "readers"
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "chat", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 3, Offset: 7}}}}
	if p := w.ask(commit, 7).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0]; p.Partition != 3 || p.ErrorCode != kerr.GroupAuthorizationFailed.Code {
		t.Errorf("OffsetCommit: partition %d: %v", p.Partition, kerr.ErrorForCode(p.ErrorCode))
	}
	committed := kmsg.NewPtrOffsetFetchRequest()
	committed.Group, committed.Topics = "readers", []kmsg.OffsetFetchRequestTopic{{Topic: "chat", Partitions: []int32{0}}}
	if resp := w.ask(committed, 5).(*kmsg.OffsetFetchResponse); resp.ErrorCode != 0 || len(resp.Topics) > 0 {
		t.Errorf("OffsetFetch: %v, %d topics", kerr.ErrorForCode(resp.ErrorCode), len(resp.Topics))
	}

	later := kmsg.NewPtrApiVersionsRequest()
	later.ClientSoftwareName, later.ClientSoftwareVersion = "a-client", "9"
	later.SetVersion(4)
	w.number++
	w.Write(kmsg.NewRequestFormatter().AppendRequest(nil, later, w.number))
	if resp, err := w.read(kmsg.NewPtrApiVersionsResponse()); err != nil || resp.(*kmsg.ApiVersionsResponse).ErrorCode != kerr.UnsupportedVersion.Code {
		t.Errorf("ApiVersions of a later Kafka: %+v, %v", resp, err)
	}
}

func TestBatchesThatAreRefused(t *testing.T) {
	t.Parallel()
	three, good := records("a", "b", "c"), batch(3, records("a", "b", "c"))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	b := start(t, Config{Topic: "chat"})
	tests := map[string]struct {
		batch []byte
		want  *kerr.Error
	}{
		"nothing":                               {nil, kerr.CorruptMessage},
		"half a header":                         {good[:30], kerr.CorruptMessage},
		"a flipped bit":                         {flipped, kerr.CorruptMessage},
		"two batches":                           {append(bytes.Clone(good), good...), kerr.CorruptMessage},
		"an old format":                         {batch(3, three, func(b *kmsg.RecordBatch) { b.Magic = 1 }), kerr.CorruptMessage},
		"fewer records than it says":            {batch(4, three), kerr.InvalidRecord},
		"more records than it says":             {batch(2, three), kerr.InvalidRecord},
		"minus five records":                    {batch(-5, nil), kerr.InvalidRecord},
		"no record":                             {batch(0, nil), kerr.InvalidRecord},
		"two billion records":                   {batch(math.MaxInt32, nil), kerr.InvalidRecord},
		"other numbers of records":              {batch(3, three, func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 5 }), kerr.InvalidRecord},
		"not compressed as it says":             {batch(3, three, attributes(4)), kerr.InvalidRecord},
		"unknown compression":                   {batch(3, three, attributes(7)), kerr.InvalidRecord},
		"of a transaction":                      {batch(3, three, attributes(0x10)), kerr.InvalidRecord},
		"a control batch":                       {batch(3, three, attributes(0x20)), kerr.InvalidRecord},
		"too large":                             {batch(1, records(strings.Repeat("x", maxBatch))), kerr.MessageTooLarge},
		"snappy: blocks that are cut":           {batch(3, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"), attributes(2)), kerr.InvalidRecord},
		"snappy: four gigabytes, it says":       {batch(3, []byte("\xff\xff\xff\xff\x0f"), attributes(2)), kerr.MessageTooLarge},
		"gzip: a megabyte and more":             {batch(1, compress(t, 1, 2<<20), attributes(1)), kerr.MessageTooLarge},
		"gzip: 100 megabytes":                   {batch(1, compress(t, 1, 100<<20), attributes(1)), kerr.MessageTooLarge},
		"lz4: 100 megabytes":                    {batch(1, compress(t, 3, 100<<20), attributes(3)), kerr.MessageTooLarge},
		"zstd: 100 megabytes":                   {batch(1, compress(t, 4, 100<<20), attributes(4)), kerr.MessageTooLarge},
		"the broker's time, which kfake spoils": {batch(3, three, attributes(0x08)), kerr.InvalidRecord},
		"the broker's time, and compressed":     {batch(3, three, attributes(0x0c)), kerr.InvalidRecord},
	}
	w := dial(t, b.Addr()) // late: what is silent for too long at the start loses its connection
	for name, c := range tests {
		if err := w.produce("chat", c.batch); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if n := w.newest("chat"); n != 0 {
			t.Fatalf("%s was written: the topic ends at %d", name, n)
		}
	}
	if err := w.produce("chat", good); err != nil {
		t.Error(err)
	}
}

// compress makes a batch's records of n bytes, which nobody needs to look at.
func compress(t *testing.T, codec, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	switch codec {
	case 1:
		w = gzip.NewWriter(&b)
	case 3:
		w = lz4.NewWriter(&b)
	case 4:
		w, _ = zstd.NewWriter(&b)
	}
	zeros := make([]byte, 1<<20)
	for ; n > 0; n -= len(zeros) {
		w.Write(zeros[:min(n, len(zeros))])
	}
	w.Close()
	if b.Len() > maxBatch {
		t.Fatalf("%d bytes are no bomb", b.Len())
	}
	return b.Bytes()
}

// Kafka's rule for names, and one bound for all partitions: one name of 300 letters made a folder
// that could never be opened again.
func TestTopicsThatAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := start(t, Config{Topic: "chat", DataDir: dir})
	w := dial(t, b.Addr())
	long := strings.Repeat("x", 249)
	for _, c := range []struct {
		name       string
		partitions int32
		want       error
	}{
		{"", 1, kerr.InvalidTopicException}, {".", 1, kerr.InvalidTopicException}, {"..", 1, kerr.InvalidTopicException},
		{"a/b", 1, kerr.InvalidTopicException}, {"../../escaped", 1, kerr.InvalidTopicException}, {"a\x00b", 1, kerr.InvalidTopicException},
		{long + "x", 1, kerr.InvalidTopicException}, {strings.Repeat("x", 20_000), 1, kerr.InvalidTopicException},
		{strings.Repeat("\xff", 90), 1, kerr.InvalidTopicException}, {strings.Repeat("ä", 60), 1, kerr.InvalidTopicException},
		{"chat", 1, kerr.TopicAlreadyExists}, {"none", 0, kerr.InvalidPartitions}, {"less", -5, kerr.InvalidPartitions},
		{"billion", 1 << 30, kerr.PolicyViolation}, {"more", 100, kerr.PolicyViolation},
		{long, 1, nil}, {"by-default", -1, nil}, {"The.Rest-of_them", 97, nil}, {"one-more", 1, kerr.PolicyViolation},
	} {
		if err := w.create(c.name, c.partitions); !errors.Is(err, c.want) {
			t.Errorf("a topic %.20q of %d partitions: %v, want %v", c.name, c.partitions, err, c.want)
		}
	}
	copies := createRequest("copies", 1)
	copies.Topics[0].ReplicationFactor = 3
	if a := w.ask(copies, 3).(*kmsg.CreateTopicsResponse).Topics[0]; a.ErrorCode != kerr.InvalidReplicationFactor.Code || a.ErrorMessage == nil {
		t.Errorf("three copies: %v", kerr.ErrorForCode(a.ErrorCode))
	}
	if err := w.produce(long, batch(1, records("kept"))); err != nil {
		t.Fatal(err)
	}
	b.Close()
	again := dial(t, start(t, Config{DataDir: dir}).Addr())
	if n := again.newest(long); n != 1 {
		t.Errorf("after a restart the topic ends at %d", n)
	}
	if err := again.create("one-more", 1); !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("partition 101, after a restart: %v", err)
	}
	drop := kmsg.NewPtrDeleteTopicsRequest()
	drop.TopicNames = []string{long}
	if r := again.ask(drop, 3).(*kmsg.DeleteTopicsResponse).Topics[0]; r.ErrorCode != 0 {
		t.Errorf("deleting: %v", kerr.ErrorForCode(r.ErrorCode))
	}
	if err := again.create("one-more", 1); err != nil {
		t.Errorf("partition 100, after one was deleted: %v", err)
	}
}

// An idempotent producer's batch that comes twice is written once, and an id that another producer
// got since is refused.
func TestProducerIDs(t *testing.T) {
	t.Parallel()
	w := dial(t, start(t, Config{Topic: "chat"}).Addr())
	id := func() *kmsg.InitProducerIDResponse {
		return w.ask(kmsg.NewPtrInitProducerIDRequest(), 1).(*kmsg.InitProducerIDResponse)
	}
	send := func(p *kmsg.InitProducerIDResponse, sequence int32) error {
		return w.produce("chat", batch(1, records("a"), func(b *kmsg.RecordBatch) {
			b.ProducerID, b.ProducerEpoch, b.FirstSequence = p.ProducerID, p.ProducerEpoch, sequence
		}))
	}
	first := id()
	for _, sequence := range []int32{0, 0, 1, 1, 0} {
		if err := send(first, sequence); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.newest("chat"); n != 2 {
		t.Errorf("2 records, one of them sent twice and the other three times: the topic ends at %d", n)
	}
	for range maxProducers - 1 {
		id()
	}
	second := id()
	if second.ProducerID != first.ProducerID || second.ProducerEpoch != first.ProducerEpoch+1 {
		t.Fatalf("producer %d has id %d.%d, the first %d.%d", maxProducers, second.ProducerID, second.ProducerEpoch, first.ProducerID, first.ProducerEpoch)
	}
	if err := send(second, 0); err != nil {
		t.Error(err)
	}
	if err := send(first, 2); !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("the first producer goes on: %v", err)
	}
	strange := &kmsg.InitProducerIDResponse{ProducerID: first.ProducerID ^ 1<<40, ProducerEpoch: 3}
	if err := errors.Join(send(strange, 7), send(strange, 3)); err != nil { // of an earlier run: as from a producer without an id
		t.Errorf("an unknown id: %v", err)
	}
}
