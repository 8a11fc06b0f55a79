package broker

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// badBytes are what must cost a client its connection, and nobody else anything.
func badBytes() map[string][]byte {
	request := func(key kmsg.Key, version int16, body ...byte) []byte { // whole, with its length
		b := []byte{byte(key >> 8), byte(key), byte(version >> 8), byte(version), 0, 0, 0, 1, 0xff, 0xff}
		b = append(b, body...)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	}
	produce := func(topics uint32, body []byte) []byte {
		return request(kmsg.Produce, 7, append(binary.BigEndian.AppendUint32([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 0}, topics), body...)...)
	}
	return map[string][]byte{
		"http":                           []byte("GET / HTTP/1.1\r\nHost: localhost:9092\r\n\r\n"),
		"http post":                      []byte("POST / HTTP/1.1\r\nHost: localhost:9092\r\nContent-Length: 5\r\n\r\nhello"),
		"tls":                            []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		"fourteen wild bytes":            request(0x7fff, 0),
		"two gigabytes":                  {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"four gigabytes":                 {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"a little more than allowed":     binary.BigEndian.AppendUint32(nil, maxRequest+1),
		"nothing":                        {0, 0, 0, 0},
		"half a header":                  {0, 0, 0, 4, 0, 3, 0, 1},
		"negative key":                   request(-1, 0),
		"unknown version":                request(kmsg.Produce, 1000),
		"negative version":               request(kmsg.Metadata, -1),
		"a version with tags":            request(kmsg.JoinGroup, 6, make([]byte, 30)...),
		"cut body":                       request(kmsg.Fetch, 11, 1, 2, 3),
		"an array that is not there":     request(kmsg.Metadata, 1, 0x7f, 0xff, 0xff, 0xff),
		"topics that are not there":      produce(math.MaxInt32, nil),
		"two million topics":             produce(2_000_000, make([]byte, 6*2_000_000)),
		"a long request without records": request(kmsg.Metadata, 1, append([]byte{0, 0, 0x4e, 0x20}, make([]byte, 40_000)...)...),
		"settings at run time":           request(kmsg.AlterConfigs, 0, make([]byte, 8)...),
		"a transaction's partition":      request(kmsg.AddPartitionsToTxn, 0, make([]byte, 20)...),
	}
}

func TestBadBytesEndTheirConnectionOnly(t *testing.T) {
	t.Parallel()
	b := start(t, Config{Topic: "fuzz"})
	other := dial(t, b.Addr())
	for name, sent := range badBytes() {
		w := dial(t, b.Addr())
		w.Write(sent)
		w.SetReadDeadline(time.Now().Add(patience / 4)) // it ends before the time for a request does
		if n, err := w.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open (%d bytes of an answer, %v)", name, n, err)
		}
		other.newest("fuzz")
	}
}

// What has an error in the protocol gets that error, and the connection lives on.
func TestKafkasErrors(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := dial(t, start(t, Config{Topic: "chat", Log: slog.New(slog.NewTextHandler(&log, nil))}).Addr())
	wrong := func(what string, version, code int16, want *kerr.Error) {
		t.Helper()
		if want := want.Code; code != want {
			t.Errorf("%s, version %d: %v, want %v", what, version, kerr.ErrorForCode(code), kerr.ErrorForCode(want))
		}
	}
	begin := kmsg.NewPtrInitProducerIDRequest()
	begin.TransactionalID = kmsg.StringPtr("payments")
	for version := range int16(5) {
		wrong("a transaction", version, w.ask(begin, version).(*kmsg.InitProducerIDResponse).ErrorCode, kerr.TransactionalIDAuthorizationFailed)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey = "readers" // with an error, librdkafka's Close takes 45 s
	wrong("FindCoordinator", 2, w.ask(find, 2).(*kmsg.FindCoordinatorResponse).ErrorCode, new(kerr.Error))
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = "readers", "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}, {Name: "range"}} // two of a name ended the process
	for version := range int16(6) {
		wrong("JoinGroup", version, w.ask(join, version).(*kmsg.JoinGroupResponse).ErrorCode, kerr.GroupAuthorizationFailed)
	}
	if n := strings.Count(log.String(), "no consumer groups"); n != 1 || !strings.Contains(log.String(), "group=readers") {
		t.Errorf("the log says so %d times: %s", n, &log)
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group = "readers"
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "chat", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 3, Offset: 7}}}}
	p := w.ask(commit, 7).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0]
	if wrong("OffsetCommit", 7, p.ErrorCode, kerr.GroupAuthorizationFailed); p.Partition != 3 {
		t.Errorf("the answer is for partition %d", p.Partition)
	}
	committed := kmsg.NewPtrOffsetFetchRequest()
	committed.Group, committed.Topics = "readers", []kmsg.OffsetFetchRequestTopic{{Topic: "chat", Partitions: []int32{0}}}
	fetched := w.ask(committed, 5).(*kmsg.OffsetFetchResponse)
	if wrong("OffsetFetch", 5, fetched.ErrorCode, new(kerr.Error)); len(fetched.Topics) > 0 {
		t.Errorf("something was committed: %+v", fetched.Topics)
	}
	later := kmsg.NewPtrApiVersionsRequest()
	later.ClientSoftwareName, later.ClientSoftwareVersion = "a-client", "9"
	w.Write(w.bytes(later, 4))
	resp, err := w.read(kmsg.NewPtrApiVersionsResponse())
	if err != nil {
		t.Fatal(err)
	}
	wrong("ApiVersions of a later Kafka", 4, resp.(*kmsg.ApiVersionsResponse).ErrorCode, kerr.UnsupportedVersion)
}

func TestBatches(t *testing.T) {
	t.Parallel()
	three, good := records("a", "b", "c"), batch(3, records("a", "b", "c"))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	w := dial(t, start(t, Config{Topic: "chat"}).Addr())
	w.newest("chat")
	written := int64(0)
	for name, c := range map[string]struct {
		batch []byte
		want  error
	}{
		"nothing":                               {nil, kerr.CorruptMessage},
		"half a header":                         {good[:30], kerr.CorruptMessage},
		"a flipped bit":                         {flipped, kerr.CorruptMessage},
		"two batches":                           {append(bytes.Clone(good), good...), kerr.CorruptMessage},
		"an old format":                         {batch(3, three, func(b *kmsg.RecordBatch) { b.Magic = 1 }), kerr.CorruptMessage},
		"other numbers of records":              {batch(3, three, func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 5 }), kerr.CorruptMessage},
		"fewer records than it says":            {batch(4, three), kerr.InvalidRecord},
		"more records than it says":             {batch(2, three), kerr.InvalidRecord},
		"two records of one number":             {batch(2, slices.Concat(records("a"), records("b"))), kerr.InvalidRecord},
		"minus five records":                    {batch(-5, nil), kerr.InvalidRecord},
		"no record":                             {batch(0, nil), kerr.InvalidRecord},
		"two billion records":                   {batch(math.MaxInt32, nil), kerr.InvalidRecord},
		"not compressed as it says":             {batch(3, three, attributes(4)), kerr.InvalidRecord},
		"unknown compression":                   {batch(3, three, attributes(7)), kerr.InvalidRecord},
		"of a transaction":                      {batch(3, three, attributes(0x10)), kerr.InvalidRecord},
		"a control batch":                       {batch(3, three, attributes(0x20)), kerr.InvalidRecord},
		"the broker's time, which kfake spoils": {batch(3, three, attributes(0x08)), kerr.InvalidRecord},
		"the broker's time, and compressed":     {batch(3, three, attributes(0x0c)), kerr.InvalidRecord},
		"snappy: blocks that are cut":           {batch(3, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"), attributes(2)), kerr.InvalidRecord},
		"snappy: four gigabytes, it says":       {batch(3, []byte("\xff\xff\xff\xff\x0f"), attributes(2)), kerr.MessageTooLarge},
		"too large":                             {batch(1, records(strings.Repeat("x", maxBatch))), kerr.MessageTooLarge},
		"gzip: a megabyte and more":             {batch(1, compress(t, 1, make([]byte, 2<<20)), attributes(1)), kerr.MessageTooLarge},
		"gzip: 100 megabytes":                   {batch(1, compress(t, 1, make([]byte, 100<<20)), attributes(1)), kerr.MessageTooLarge},
		"lz4: 100 megabytes":                    {batch(1, compress(t, 3, make([]byte, 100<<20)), attributes(3)), kerr.MessageTooLarge},
		"zstd: 100 megabytes":                   {batch(1, compress(t, 4, make([]byte, 100<<20)), attributes(4)), kerr.MessageTooLarge},
		// Java's has a window of 2 MB in the header of a batch that is small.
		"zstd: a large window": {batch(3, compress(t, 4, three), attributes(4)), nil},
		"good":                 {good, nil},
	} {
		if err := w.produce("chat", c.batch); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == nil {
			written += 3
		}
		if n := w.newest("chat"); n != written {
			t.Fatalf("%s: the topic ends at %d, want %d", name, n, written)
		}
	}
	w.values("chat")
}

// compress makes a batch's records of b, as a stream: the beginning does not say how much there is.
func compress(t *testing.T, codec int, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w interface {
		io.WriteCloser
		Flush() error
	}
	switch codec {
	case 1:
		w = gzip.NewWriter(&out)
	case 3:
		w = lz4.NewWriter(&out)
	case 4:
		w, _ = zstd.NewWriter(&out, zstd.WithWindowSize(8<<20))
	}
	w.Write(b)
	if err := errors.Join(w.Flush(), w.Close()); err != nil || out.Len() > maxBatch {
		t.Fatalf("%d bytes are no bomb: %v", out.Len(), err)
	}
	return out.Bytes()
}

// Kafka's rule for names, and one bound for all partitions: one name of 300 letters made a folder
// that could never be opened again.
func TestTopics(t *testing.T) {
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
		{long, 1, nil}, {"by-default", -1, nil}, {"The.Rest-of_them", 96, nil}, {"two-more", 2, kerr.PolicyViolation},
	} {
		if err := w.create(c.name, c.partitions); !errors.Is(err, c.want) {
			t.Errorf("a topic %.20q of %d partitions: %v, want %v", c.name, c.partitions, err, c.want)
		}
	}
	copies := createRequest("copies", 1)
	copies.Topics[0].ReplicationFactor = 3
	if a := w.ask(copies, 3).(*kmsg.CreateTopicsResponse).Topics[0]; a.ErrorCode != kerr.InvalidReplicationFactor.Code {
		t.Errorf("three copies: %v", kerr.ErrorForCode(a.ErrorCode))
	}
	if err := errors.Join(w.create("last", 1), w.produce(long, batch(1, records("kept")))); err != nil {
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
	again.ask(drop, 3)
	if err := again.create("one-more", 1); err != nil {
		t.Errorf("partition 100, after one was deleted: %v", err)
	}
}

// An idempotent producer's batch that comes twice is written once, and an id that another producer
// got since is refused.
func TestProducerIDs(t *testing.T) {
	t.Parallel()
	w := dial(t, start(t, Config{Topic: "chat"}).Addr())
	id := func() (int64, int16) {
		p := w.ask(kmsg.NewPtrInitProducerIDRequest(), 1).(*kmsg.InitProducerIDResponse)
		return p.ProducerID, p.ProducerEpoch
	}
	send := func(id int64, epoch int16, sequences ...int32) (err error) {
		for _, s := range sequences {
			err = errors.Join(err, w.produce("chat", batch(1, records("a"), by(id, epoch, s))))
		}
		return err
	}
	first, epoch := id()
	if err := send(first, epoch, 0, 0, 1, 1, 0); err != nil {
		t.Fatal(err)
	}
	if n := w.newest("chat"); n != 2 {
		t.Errorf("2 records, one of them sent twice and the other three times: the topic ends at %d", n)
	}
	for range maxProducers - 1 {
		id()
	}
	second, later := id()
	if second != first || later != epoch+1 {
		t.Fatalf("producer %d has id %d.%d, the first %d.%d", maxProducers, second, later, first, epoch)
	}
	if err := send(second, later, 0); err != nil {
		t.Error(err)
	}
	if err := send(first, epoch, 2); !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("the first producer goes on: %v", err)
	}
	if err := send(first^1<<40, 3, 7, 3); err != nil { // of an earlier run: as from a producer without an id
		t.Errorf("an unknown id: %v", err)
	}
}
