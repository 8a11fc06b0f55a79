package clitest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// A Kafka is three brokers. A client without a login may do everything. A client that logs in as
// ann may do only what Grant has allowed.
type Kafka struct {
	*realkafka.Cluster
	t *testing.T
}

// StartKafka starts a Kafka, which ends with the test.
func StartKafka(t *testing.T) *Kafka {
	t.Helper()
	return &Kafka{t: t, Cluster: realkafka.Start(t, realkafka.Options{
		Brokers:   3,
		Listeners: map[string]string{"LOGIN": "SASL_PLAINTEXT"},
		Properties: map[string]string{
			"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
			"super.users":           "User:ANONYMOUS",
			"listener.name.login.sasl.enabled.mechanisms": "PLAIN",
			"listener.name.login.plain.sasl.jaas.config":  `org.apache.kafka.common.security.plain.PlainLoginModule required user_ann="secret";`,
			"log.cleaner.backoff.ms":                      "100",
			"log.cleaner.dedupe.buffer.size":              "2000000",
		},
	})}
}

// admin calls ask with new connections: a broker may have been killed since the last call.
func (k *Kafka) admin(ask func(admin sarama.ClusterAdmin) error) {
	k.t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin(strings.Split(k.Addrs(), ","), config)
	if err == nil {
		defer admin.Close()
		err = ask(admin)
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// Topic makes a topic with one partition for each list of brokers.
func (k *Kafka) Topic(settings map[string]string, partitions ...[]int32) string {
	k.t.Helper()
	name := kafkatest.TopicName(k.t, k.Addrs())
	detail := &sarama.TopicDetail{NumPartitions: -1, ReplicationFactor: -1, ReplicaAssignment: make(map[int32][]int32), ConfigEntries: make(map[string]*string)}
	for i, brokers := range partitions {
		detail.ReplicaAssignment[int32(i)] = brokers
	}
	for key, value := range settings {
		detail.ConfigEntries[key] = &value
	}
	k.admin(func(admin sarama.ClusterAdmin) error { return admin.CreateTopic(name, detail, false) })
	k.await(name, len(partitions), k.Addrs(), make(map[string]string))
	return name
}

// Grow adds a second partition to a topic.
func (k *Kafka) Grow(topic string) {
	k.t.Helper()
	k.admin(func(admin sarama.ClusterAdmin) error { return admin.CreatePartitions(topic, 2, [][]int32{{1}}, false) })
	k.await(topic, 2, k.Addrs(), make(map[string]string))
}

// Grant gives ann a right on a topic with one partition.
func (k *Kafka) Grant(topic string, right sarama.AclOperation) {
	k.t.Helper()
	resource := sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: topic, ResourcePatternType: sarama.AclPatternLiteral}
	k.admin(func(admin sarama.ClusterAdmin) error {
		return admin.CreateACL(resource, sarama.Acl{Principal: "User:ann", Host: "*", Operation: right, PermissionType: sarama.AclPermissionAllow})
	})
	k.await(topic, 1, k.ListenerAddrs("LOGIN"), ann())
}

// await returns when each broker tells a client with these variables how many partitions a topic has:
// a broker hears of a change later than the client that has asked for the change.
func (k *Kafka) await(topic string, partitions int, addrs string, env map[string]string) {
	k.t.Helper()
	for addr := range strings.SplitSeq(addrs, ",") {
		env["KAFKA_BROKER"] = addr
		cluster, err := kafka.FromEnv(func(name string) string { return env[name] })
		if err != nil {
			k.t.Fatal(err)
		}
		look := func() string { return fmt.Sprint(cluster.Partitions(k.t.Context(), topic)) }
		if !Eventually(look, fmt.Sprintf("^%d <nil>$", partitions)) {
			k.t.Fatalf("%s does not know that topic %s has %d partitions: %s", addr, topic, partitions, look())
		}
	}
}

// ann returns the variables of a program that logs in as ann.
func ann() map[string]string {
	return map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "ann", "KAFKA_SASL_PASSWORD": "secret"}
}

// AsAnn starts a program that logs in as ann.
func (k *Kafka) AsAnn(topic, program string, args ...string) *Process {
	k.t.Helper()
	p := New(k.t, k.ListenerAddrs("LOGIN"), topic, program, args...)
	for name, value := range ann() {
		p.Cmd.Env = append(p.Cmd.Env, name+"="+value)
	}
	return p.Start()
}
