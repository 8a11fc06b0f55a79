// Naive is the usual last step of the lab: messages go to a topic, and handleMessages reads the
// topic. Two servers with one Kafka are one chat. ../README.md lists the faults. Kafka must run first:
//
//	go run ./chatserver                                                           (its broker is enough)
//	PORT=8001 KAFKA_BROKER=localhost:9092 go run chatserver/lesson/naive/main.go
package main

import (
	"cmp"
	"fmt"
	"html"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"
)

var (
	clients  = make(map[*websocket.Conn]bool)
	brokers  = []string{cmp.Or(os.Getenv("KAFKA_BROKER"), "localhost:9092")}
	topic    = cmp.Or(os.Getenv("TOPIC"), "chat")
	port     = cmp.Or(os.Getenv("PORT"), "8000")
	upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
)

const page = `<!doctype html><meta charset="utf-8">
<title>Connected to Pod %[1]s</title>
<h1>Chatting on %[1]s</h1>
<div id="log"></div>
<form id="form"><input id="text" autofocus autocomplete="off"> <button>Send</button></form>
<script>
	const ws = new WebSocket(location.href.replace(/^http/, "ws") + "ws")
	const show = text => log.append(text, document.createElement("br"))
	ws.onmessage = event => show(event.data)
	ws.onclose = () => show("Connection closed")
	form.onsubmit = () => { ws.send(text.value); form.reset(); return false }
</script>
`

func handlePage(w http.ResponseWriter, r *http.Request) {
	name, _ := os.Hostname()
	fmt.Fprintf(w, page, html.EscapeString(cmp.Or(os.Getenv("POD_NAME"), name+":"+port)))
}

// handleWSConnections runs once for each client: each of its messages goes to the topic.
func handleWSConnections(w http.ResponseWriter, r *http.Request) {
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		log.Print(err)
		return
	}
	defer ws.Close()
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true // a SyncProducer demands it
	producer, err := sarama.NewSyncProducer(brokers, config)
	if err != nil {
		log.Print(err)
		return
	}
	defer producer.Close()
	clients[ws] = true
	for {
		_, message, err := ws.ReadMessage()
		if err != nil {
			delete(clients, ws)
			return
		}
		if string(message) == "/who" {
			ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "%d people are here", len(clients)))
			continue
		}
		_, offset, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(message)})
		log.Println("stored at offset", offset, "error", err)
	}
}

// handleMessages runs once: each message of the topic goes to each client.
func handleMessages() {
	consumer, err := sarama.NewConsumer(brokers, nil)
	if err != nil {
		log.Fatalf("no Kafka at %s, start one with go run ./chatserver (%v)", brokers[0], err)
	}
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetNewest)
	if err != nil {
		log.Fatal(err)
	}
	for message := range partition.Messages() {
		for client := range clients {
			if err := client.WriteMessage(websocket.TextMessage, message.Value); err != nil {
				client.Close()
				delete(clients, client)
			}
		}
	}
}

func main() {
	http.HandleFunc("/{$}", handlePage)
	http.HandleFunc("/ws", handleWSConnections)
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatalf("port %s cannot be used: stop the program that has it, or set PORT to another port (%v)", port, err)
	}
	go handleMessages()
	log.Printf("open http://%s", ln.Addr())
	log.Fatal(http.Serve(ln, nil))
}
