package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/leaktest"
	"kafkachat/internal/wire"
)

// Idempotent producers: sarama with each compression, and franz-go, which also asks for a fetch session.
func TestClients(t *testing.T) {
	t.Parallel()
	addr := start(t, Config{Topic: "chat"}).Addr()
	var want, got []string
	for codec, version := range []sarama.KafkaVersion{sarama.V2_8_0_0, sarama.V2_1_0_0, sarama.V2_8_0_0, sarama.V2_8_0_0, sarama.MaxVersion} {
		config := sarama.NewConfig()
		config.Version, config.Producer.Compression = version, sarama.CompressionCodec(codec) // none, gzip, snappy, lz4, zstd
		config.Producer.RequiredAcks, config.Producer.Return.Successes = sarama.WaitForAll, true
		config.Producer.Idempotent, config.Producer.Retry.Max, config.Net.MaxOpenRequests = true, 1, 1
		producer, err := sarama.NewSyncProducer([]string{addr}, config)
		check(t, err)
		for _, v := range []string{"hello", strings.Repeat("long ", 100_000), "", strings.Repeat("x", 1_000_000-100)} { // sarama sends no larger one
			want = append(want, v)
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "chat", Value: sarama.StringEncoder(v)})
			check(t, err)
		}
		check(t, producer.Close())
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("chat"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"chat": {0: kgo.NewOffset().AtStart()}}))
	check(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var sent []*kgo.Record
	for i := range 3000 {
		v := fmt.Sprint(i, strings.Repeat(" text", i%300))
		want, sent = append(want, v), append(sent, kgo.StringRecord(v))
	}
	for err = client.ProduceSync(ctx, sent...).FirstErr(); err == nil && len(got) < len(want); {
		fetches := client.PollFetches(ctx)
		err = fetches.Err()
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("other records came back, %d: %v", len(got), err)
	}
}

// A broker finds another port where the usual one is taken, says what it cannot use, and tells clients the address that they used.
func TestAddresses(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	taken, b := start(t, Config{}).Addr(), &Broker{cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	check(t, b.listen(taken))
	b.ln.Close()
	_, address := Start(Config{Addr: taken})
	_, folder := Start(Config{DataDir: os.Args[0]})
	for said, want := range map[string]string{log.String(): "KAFKA_BROKER=" + taken,
		fmt.Sprint(address): fmt.Sprintf("EMBEDDED_ADDR=%q cannot be used", taken), fmt.Sprint(folder): fmt.Sprintf("DATA_DIR %q: mkdir", os.Args[0])} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %s", said, want)
		}
	}
	w := dial(t, start(t, Config{Addr: "0.0.0.0:0"}).Addr())
	node := w.ask(kmsg.NewPtrMetadataRequest(), 1).(*kmsg.MetadataResponse).Brokers[0]
	group := w.ask(kmsg.NewPtrFindCoordinatorRequest(), 1).(*kmsg.FindCoordinatorResponse)
	if told := fmt.Sprintf("%s:%d %s:%d", node.Host, node.Port, group.Host, group.Port); told != fmt.Sprintf("%s %[1]s", w.RemoteAddr()) {
		t.Errorf("a client of %s is told %s", w.RemoteAddr(), told)
	}
}

// Close waits for nobody: not for a fetch that waits, and not for half a request.
func TestCloseEndsAllGoroutines(t *testing.T) {
	leaktest.Check(t, patience)
	b := start(t, Config{Topic: "chat", DataDir: t.TempDir()})
	for range 30 {
		dial(t, b.Addr()).Write([]byte{0, 0, 0, 20, 0}) // the beginning of a request
	}
	w := dial(t, b.Addr())
	w.newest("chat") // so that all are known to be served
	wait := fetchRequest("chat", 0)
	wait.MinBytes, wait.MaxWaitMillis = 1, 60_000
	w.Write(w.bytes(wait, 11))
	begin := time.Now()
	if err := b.Close(); err != nil || time.Since(begin) > requestTimeout*9/10 {
		t.Errorf("Close took %v: %v", time.Since(begin), err)
	}
}

// What has an error in the protocol gets that error, and the connection lives on.
func TestKafkasErrors(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := dial(t, start(t, Config{Topic: "chat", Log: slog.New(slog.NewTextHandler(&log, nil))}).Addr())
	for _, c := range []struct {
		req     kmsg.Request
		version int16
		want    string // is in the answer
	}{
		{&kmsg.InitProducerIDRequest{TransactionalID: kmsg.StringPtr("payments")}, 4, "ErrorCode:53"}, // TRANSACTIONAL_ID_AUTHORIZATION_FAILED
		{&kmsg.JoinGroupRequest{Group: "readers", ProtocolType: "consumer", Protocols: []kmsg.JoinGroupRequestProtocol{
			{Name: "range"}, {Name: "range"}}}, 5, "ErrorCode:30"}, // GROUP_AUTHORIZATION_FAILED; two of a name ended the process
		{&kmsg.OffsetCommitRequest{Topics: []kmsg.OffsetCommitRequestTopic{
			{Topic: "chat", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 3, Offset: 7}}}}}, 7, "{Partition:3 ErrorCode:30 "},
		{&kmsg.FindCoordinatorRequest{}, 2, "ErrorCode:0"}, // with an error, librdkafka's Close takes 45 s
		{&kmsg.OffsetFetchRequest{Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "chat", Partitions: []int32{0}}}}, 5, "Topics:[] ErrorCode:0"},
		{&kmsg.FetchRequest{ReplicaID: -1}, 11, "ErrorCode:0 SessionID:0"}, // in kfake a session may grow without limit
	} {
		if got := fmt.Sprintf("%+v", w.ask(c.req, c.version)); !strings.Contains(got, c.want) {
			t.Errorf("%s version %d: %s, want %s", kmsg.NameForKey(c.req.Key()), c.version, got, c.want)
		}
	}
	if n := strings.Count(log.String(), "no consumer groups"); n != 1 || !strings.Contains(log.String(), "group=readers") {
		t.Errorf("the log says so %d times: %s", n, &log)
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	three, good := records("a", "b", "c"), batch(3, records("a", "b", "c"))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	w := dial(t, start(t, Config{Topic: "chat"}).Addr())
	for name, c := range map[string]struct {
		batch []byte
		want  error
	}{
		"a flipped bit":                         {flipped, kerr.CorruptMessage},
		"two batches":                           {append(bytes.Clone(good), good...), kerr.CorruptMessage},
		"an old format":                         {batch(3, three, func(b *kmsg.RecordBatch) { b.Magic = 1 }), kerr.CorruptMessage},
		"other numbers of records":              {batch(3, three, func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 5 }), kerr.CorruptMessage},
		"fewer records than it says":            {batch(4, three), kerr.InvalidRecord},
		"more records than it says":             {batch(2, three), kerr.InvalidRecord},
		"two records of one number":             {batch(2, slices.Concat(records("a"), records("b"))), kerr.InvalidRecord},
		"no record":                             {batch(0, nil), kerr.InvalidRecord},
		"not compressed as it says":             {batch(3, three, attributes(4)), kerr.InvalidRecord},
		"of a transaction":                      {batch(3, three, attributes(0x10)), kerr.InvalidRecord},
		"the broker's time, which kfake spoils": {batch(3, three, attributes(0x08)), kerr.InvalidRecord},
		"snappy: four gigabytes, it says":       {batch(3, []byte("\xff\xff\xff\xff\x0f"), attributes(2)), kerr.MessageTooLarge},
		"too large":                             {batch(1, records(strings.Repeat("x", maxBatch))), kerr.MessageTooLarge},
		"a megabyte and more":                   {batch(1, compress(make([]byte, 2<<20)), attributes(4)), kerr.MessageTooLarge},
		"zstd":                                  {batch(3, compress(three), attributes(4)), nil},
		"good":                                  {good, nil},
	} {
		if err := w.produce("chat", c.batch); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if values := w.values("chat"); strings.Join(values, "") != "abcabc" {
		t.Errorf("of two good batches there is %.100q", values)
	}
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
		{"", 1, kerr.InvalidTopicException}, {"..", 1, kerr.InvalidTopicException}, {"a/b", 1, kerr.InvalidTopicException},
		{long + "x", 1, kerr.InvalidTopicException}, {"\xff", 1, kerr.InvalidTopicException}, {"ä", 1, kerr.InvalidTopicException},
		{"chat", 1, kerr.TopicAlreadyExists}, {"none", 0, kerr.InvalidPartitions}, {"less", -5, kerr.InvalidPartitions},
		{"billion", 1 << 30, kerr.PolicyViolation}, {"more", 100, kerr.PolicyViolation},
		{long, 1, nil}, {"by-default", -1, nil}, {"The.Rest-of_them", 96, nil}, {"two-more", 2, kerr.PolicyViolation},
	} {
		if err := w.create(c.name, c.partitions); !errors.Is(err, c.want) {
			t.Errorf("a topic %.20q of %d partitions: %v, want %v", c.name, c.partitions, err, c.want)
		}
	}
	check(t, w.create("last", 1))
	w.write(long, "kept")
	b.Close()
	again := dial(t, start(t, Config{DataDir: dir}).Addr())
	if err := again.create("one-more", 1); len(again.values(long)) != 1 || !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("after a restart the topic has %q, and partition 101: %v", again.values(long), err)
	}
	again.ask(&kmsg.DeleteTopicsRequest{TopicNames: []string{long}, TimeoutMillis: 15_000}, 3)
	check(t, again.create("one-more", 1))
}

// An idempotent producer's batch that comes twice is written once, an id that another producer got
// since is refused, and kfake, which forgets none, is told no id of an earlier run.
func TestProducerIDs(t *testing.T) {
	t.Parallel()
	w := dial(t, start(t, Config{Topic: "chat"}).Addr())
	producer := func() *kmsg.InitProducerIDResponse {
		return w.ask(kmsg.NewPtrInitProducerIDRequest(), 4).(*kmsg.InitProducerIDResponse)
	}
	send := func(id int64, epoch int16, sequences ...int32) (err error) {
		for _, s := range sequences {
			err = errors.Join(err, w.produce("chat", batch(1, records("a"), by(id, epoch, s))))
		}
		return err
	}
	a := producer()
	if err := send(a.ProducerID, a.ProducerEpoch, 0, 0, 1, 1, 0); err != nil || w.newest("chat") != 2 {
		t.Errorf("2 records, one of them sent twice and the other three times: the topic ends at %d, %v", w.newest("chat"), err)
	}
	for range maxProducers - 1 {
		producer()
	}
	b := producer()
	if err := send(b.ProducerID, b.ProducerEpoch, 0); err != nil || b.ProducerID != a.ProducerID {
		t.Errorf("producer %d has id %d, the first has %d: %v", maxProducers, b.ProducerID, a.ProducerID, err)
	}
	if err := send(a.ProducerID, a.ProducerEpoch, 2); !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("the first producer goes on: %v", err)
	}
	check(t, send(a.ProducerID^1<<40, 3, 7, 3))
	all := w.ask(fetchRequest("chat", 3), 11).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches
	if b, _, err := wire.ReadBatch(all); err != nil || b.ProducerID != -1 {
		t.Errorf("a batch of an unknown id has id %d: %v", b.ProducerID, err)
	}
}

// heap returns by how many bytes the heap grows at most while f runs.
func heap(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // little of this is garbage
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most, done := m.HeapAlloc, m.HeapAlloc, make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	for {
		select {
		case <-done:
			return most - before
		case <-time.After(5 * time.Millisecond):
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
}

// The broker may run for months: all topics together keep maxKept, whatever they are asked to keep,
// and the newest records are among that.
func TestTopicsAreBounded(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Config{Topic: "chat", DataDir: dir})
		w := dial(t, b.Addr())
		more := createRequest("more", 2)
		for name, value := range map[string]string{"retention.bytes": "-1", "retention.ms": "1", "max.message.bytes": "1048576"} {
			more.Topics[0].Configs = append(more.Topics[0].Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: &value})
		}
		w.ask(more, 3)
		w.create("other", 2)
		w.write("other", "small, and so it stays")
		megabyte, n := strings.Repeat("x", 1<<20-200), int64(maxKept>>20*3/2)
		kept := func(topic string) int64 { return w.newest(topic) - w.oldest(topic) }
		for i := range n {
			w.write([]string{"chat", "more"}[i%2], megabyte)
		}
		k := kept("chat") + kept("more")
		if w.newest("chat") != n/2 || k > maxKept>>20+maxKept>>24+1 || k < maxKept>>20*3/4 || kept("other") != 1 {
			t.Errorf("of %d records there are %d in chat, %d in more and %d in other", n, kept("chat"), kept("more"), kept("other"))
		}
		runtime.GC()
		var m runtime.MemStats
		if runtime.ReadMemStats(&m); dir == "" && m.HeapAlloc > 2*maxKept {
			t.Errorf("%d MB of heap", m.HeapAlloc>>20)
		}
		b.Close()
	}
}

// Connections that each send what becomes much more, or large requests, or that read no answers, hold
// no more than some of them would, and a small record need not wait for them.
func TestMemory(t *testing.T) {
	bomb, half := batch(1, compress(make([]byte, 16<<20)), attributes(4)), batch(1, records(strings.Repeat("x", maxBatch/2)))
	for _, c := range []struct {
		name    string
		conns   int
		request kmsg.Request
		reads   bool
		most    uint64 // MB, twice of what was seen or more
	}{
		{"bombs", 20, produceRequest("chat", bomb), true, 200},
		{"bombs in one request", 1, produceRequest("chat", slices.Repeat([][]byte{bomb}, maxPartitions)...), true, 300},
		{"large requests", 16, produceRequest("chat", slices.Repeat([][]byte{half}, 30)...), true, 300},
		{"answers that nobody reads", maxConns - 2, fetchRequest("chat", 0), false, 400},
	} {
		b := start(t, Config{Topic: "chat"})
		chat := dial(t, b.Addr())
		for range 40 {
			chat.write("chat", strings.Repeat("x", 1<<20-200))
		}
		sent := (&raw{}).bytes(c.request, 7)
		most := heap(func() {
			var answers sync.WaitGroup
			for range c.conns {
				w := dial(t, b.Addr())
				w.number = 1
				if !c.reads {
					w.Conn.(*net.TCPConn).SetReadBuffer(4096)
					go w.Write(slices.Repeat(sent, 10))
					continue
				}
				answers.Go(func() {
					w.Write(sent)
					w.read(c.request.ResponseKind())
				})
			}
			for range 20 {
				chat.write("chat", "hello")
			}
			answers.Wait()
		}) >> 20
		if t.Logf("%s: %d MB", c.name, most); most > c.most {
			t.Errorf("%s took %d MB", c.name, most)
		}
		b.Close()
	}
}

// Connections that never asked end first, then those that are silent longest, the server's own never.
func TestTooManyConnections(t *testing.T) {
	addr := start(t, Config{Topic: "chat", Own: "chatserver-"}).Addr()
	connect := func(id string) *raw {
		w := dial(t, addr)
		w.id = id
		w.try(kmsg.NewPtrMetadataRequest(), 1)
		return w
	}
	own, other := connect("chatserver-producer-1"), connect("other")
	for range 4 * maxConns {
		dial(t, addr)
	}
	connect("newest").newest("chat")
	other.newest("chat")
	for range 2 * maxConns {
		connect("newer")
	}
	if _, err := other.try(kmsg.NewPtrMetadataRequest(), 1); err == nil {
		t.Error("the one that was silent longest is still there")
	}
	for range maxConns {
		connect("chatserver-consumer")
	}
	if _, err := dial(t, addr).try(kmsg.NewPtrMetadataRequest(), 1); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more than the server's own: %v", err)
	}
	own.newest("chat")
}
