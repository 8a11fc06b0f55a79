package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kafkachat/internal/wire"
)

func TestSarama(t *testing.T) {
	t.Parallel()
	w := dial(t, start(t, Config{}).Addr())
	want := []string{"hello", strings.Repeat("long ", 100_000), "", strings.Repeat("x", 1_000_000-100)} // a batch has at most 1,000,000 bytes
	for name, set := range map[string]func(*sarama.Config){
		"idempotent": func(c *sarama.Config) {
			c.Producer.Idempotent, c.Producer.Retry.Max, c.Net.MaxOpenRequests = true, 1, 1
		},
		"snappy":   func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionSnappy },
		"lz4":      func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionLZ4 },
		"gzip-old": func(c *sarama.Config) { c.Producer.Compression, c.Version = sarama.CompressionGZIP, sarama.V2_1_0_0 },
		"zstd-new": func(c *sarama.Config) { c.Producer.Compression, c.Version = sarama.CompressionZSTD, sarama.MaxVersion },
	} {
		config := sarama.NewConfig()
		config.Version = sarama.V2_8_0_0
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Producer.Return.Successes = true
		config.Producer.Retry.Max = 0
		set(config)
		producer, err := sarama.NewSyncProducer([]string{w.RemoteAddr().String()}, config)
		if err != nil {
			t.Fatal(err)
		}
		err = w.create(name, 1)
		for _, v := range want {
			_, _, sent := producer.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(v)})
			err = errors.Join(err, sent)
		}
		if err = errors.Join(err, producer.Close()); err != nil || !slices.Equal(w.values(name), want) {
			t.Errorf("%s: other records came back: %v", name, err)
		}
	}
}

// franz-go compresses and is idempotent by default, sends several batches at a time, and asks for
// fetch sessions.
func TestFranz(t *testing.T) {
	t.Parallel()
	client, err := kgo.NewClient(kgo.SeedBrokers(start(t, Config{Topic: "chat"}).Addr()), kgo.DefaultProduceTopic("chat"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"chat": {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var want, got []string
	var sent []*kgo.Record
	for i := range 3000 {
		want = append(want, fmt.Sprint(i, strings.Repeat(" text", i%300)))
		sent = append(sent, kgo.StringRecord(want[i]))
	}
	if err := client.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for len(got) < len(want) {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", len(got), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if !slices.Equal(got, want) {
		t.Error("other records came back")
	}
}

// The usual port may be that of another broker. An address that somebody has asked for may not.
// A broker on every address tells each client the one that the client has used.
func TestAddresses(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a, all := start(t, Config{}), start(t, Config{Addr: "0.0.0.0:0"})
	b := &Broker{cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	if err := b.listen(a.Addr()); err != nil {
		t.Fatal(err)
	}
	defer b.ln.Close()
	if a.Addr() == b.Addr() || !strings.Contains(log.String(), "KAFKA_BROKER="+a.Addr()) {
		t.Errorf("two brokers at %s and %s; the log is %s", a.Addr(), b.Addr(), &log)
	}
	for _, addr := range []string{a.Addr(), "192.0.2.1:9092"} { // the latter is another machine's
		if _, err := Start(Config{Addr: addr}); err == nil || !strings.Contains(err.Error(), "EMBEDDED_ADDR=\""+addr+"\" cannot be used") {
			t.Errorf("at %s: %v", addr, err)
		}
	}
	w := dial(t, all.Addr())
	brokers := w.ask(kmsg.NewPtrMetadataRequest(), 1).(*kmsg.MetadataResponse).Brokers
	coordinator := w.ask(kmsg.NewPtrFindCoordinatorRequest(), 1).(*kmsg.FindCoordinatorResponse)
	for _, told := range []string{fmt.Sprintf("%s:%d", brokers[0].Host, brokers[0].Port), fmt.Sprintf("%s:%d", coordinator.Host, coordinator.Port)} {
		if told != all.Addr() {
			t.Errorf("a client of %s is told %s", all.Addr(), told)
		}
	}
}

// Close waits for nobody: not for a fetch that waits, and not for half a request.
func TestCloseEndsAllGoroutines(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Config{Topic: "chat", DataDir: dir})
		for range 30 {
			dial(t, b.Addr()).Write([]byte{0, 0, 0, 20, 0}) // the beginning of a request
		}
		w := dial(t, b.Addr())
		w.newest("chat") // so that all are known to be served
		wait := fetchRequest("chat", 0)
		wait.MinBytes, wait.MaxWaitMillis = 1, 60_000
		w.Write(w.bytes(wait, 11))
		begin := time.Now()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > requestTimeout*9/10 {
			t.Errorf("Close took %v", took)
		}
		if _, err := b.ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the broker still listens: %v", err)
		}
	}
}

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

// What has an error in the protocol gets that error, and the connection lives on.
func TestKafkasErrors(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := dial(t, start(t, Config{Topic: "chat", Log: slog.New(slog.NewTextHandler(&log, nil))}).Addr())
	transaction := kmsg.NewPtrInitProducerIDRequest()
	transaction.TransactionalID = kmsg.StringPtr("payments")
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = "readers", "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}, {Name: "range"}} // two of a name ended the process
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "chat", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 3, Offset: 7}}}}
	committed := kmsg.NewPtrOffsetFetchRequest()
	committed.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "chat", Partitions: []int32{0}}}
	fetch := fetchRequest("chat", 0)
	fetch.SessionEpoch = 0
	for _, c := range []struct {
		req     kmsg.Request
		version int16
		want    string // is in the answer
	}{
		{transaction, 0, "ErrorCode:53"}, {transaction, 4, "ErrorCode:53"}, // TRANSACTIONAL_ID_AUTHORIZATION_FAILED
		{join, 0, "ErrorCode:30"}, {join, 5, "ErrorCode:30"}, {commit, 7, "{Partition:3 ErrorCode:30 "}, // GROUP_AUTHORIZATION_FAILED
		{kmsg.NewPtrFindCoordinatorRequest(), 2, "ErrorCode:0"}, // with an error, librdkafka's Close takes 45 s
		{committed, 5, "Topics:[] ErrorCode:0"},                 // nothing was ever committed
		{fetch, 11, "ErrorCode:0 SessionID:0"},                  // in kfake a session may grow without limit
	} {
		if got := fmt.Sprintf("%+v", w.ask(c.req, c.version)); !strings.Contains(got, c.want) {
			t.Errorf("%s version %d: %s, want %s", kmsg.NameForKey(c.req.Key()), c.version, got, c.want)
		}
	}
	if n := strings.Count(log.String(), "no consumer groups"); n != 1 || !strings.Contains(log.String(), "group=readers") {
		t.Errorf("the log says so %d times: %s", n, &log)
	}
	later := kmsg.NewPtrApiVersionsRequest()
	later.ClientSoftwareName, later.ClientSoftwareVersion = "a-client", "9"
	w.Write(w.bytes(later, 4))
	if resp, err := w.read(kmsg.NewPtrApiVersionsResponse()); err != nil || resp.(*kmsg.ApiVersionsResponse).ErrorCode != kerr.UnsupportedVersion.Code {
		t.Errorf("ApiVersions of a later Kafka: %+v, %v", resp, err)
	}
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
		"a megabyte and more":                   {batch(1, compress(make([]byte, 2<<20)), attributes(4)), kerr.MessageTooLarge},
		"100 megabytes":                         {batch(1, compress(make([]byte, 100<<20)), attributes(4)), kerr.MessageTooLarge},
		"zstd":                                  {batch(3, compress(three), attributes(4)), nil},
		"good":                                  {good, nil},
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
	for at, want := range map[int64]int64{0: 0, 1001: 1, 1002: 2, 1003: -1} { // although no batch said its last time
		if got := w.offset("chat", at); got != want {
			t.Errorf("the first record at or after %d has offset %d, want %d", at, got, want)
		}
	}
}

// compress makes a batch's records of b with zstd, as Java does: the header does not say how much
// there is, and has a window that is larger than a batch.
func compress(b []byte) []byte {
	var out bytes.Buffer
	w, _ := zstd.NewWriter(&out, zstd.WithWindowSize(8<<20))
	w.Write(b)
	w.Flush()
	w.Close()
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

// An idempotent producer's batch that comes twice is written once, an id that another producer got
// since is refused, and kfake, which forgets none, is told no id of an earlier run.
func TestProducerIDs(t *testing.T) {
	t.Parallel()
	w := dial(t, start(t, Config{Topic: "chat"}).Addr())
	id := func() (int64, int16) {
		p := w.ask(kmsg.NewPtrInitProducerIDRequest(), 4).(*kmsg.InitProducerIDResponse)
		return p.ProducerID, p.ProducerEpoch
	}
	send := func(id int64, epoch int16, sequences ...int32) (err error) {
		for _, s := range sequences {
			err = errors.Join(err, w.produce("chat", batch(1, records("a"), by(id, epoch, s))))
		}
		return err
	}
	first, epoch := id()
	if err := send(first, epoch, 0, 0, 1, 1, 0); err != nil || w.newest("chat") != 2 {
		t.Errorf("2 records, one of them sent twice and the other three times: the topic ends at %d, %v", w.newest("chat"), err)
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
	if err := send(first^1<<40, 3, 7, 3); err != nil {
		t.Errorf("an unknown id: %v", err)
	}
	all := w.ask(fetchRequest("chat", 3), 11).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches
	if b, _, err := wire.ReadBatch(all); err != nil || b.ProducerID != -1 {
		t.Errorf("a batch of an unknown id has id %d: %v", b.ProducerID, err)
	}
}
