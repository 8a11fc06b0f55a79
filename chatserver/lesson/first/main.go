// First is the chat of the lab's Part 2, before Kafka: a client's message goes into the channel
// broadcast, and handleMessages reads that channel. Two such servers are two chats.
//
//	go run chatserver/lesson/first/main.go
//	PORT=8001 go run chatserver/lesson/first/main.go
package main

import (
	"cmp"
	"fmt"
	"html"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/gorilla/websocket"
)

// All handlers and handleMessages share clients without a lock: the first fault of ../README.md.
var (
	clients   = make(map[*websocket.Conn]bool)
	broadcast = make(chan []byte)
	port      = cmp.Or(os.Getenv("PORT"), "8000")
	upgrader  = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
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

// handleWSConnections runs once for each client: each of its messages goes to all clients.
func handleWSConnections(w http.ResponseWriter, r *http.Request) {
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		log.Print(err)
		return
	}
	defer ws.Close()
	clients[ws] = true
	for {
		_, message, err := ws.ReadMessage()
		if err != nil {
			delete(clients, ws)
			return
		}
		broadcast <- message
	}
}

// handleMessages runs once: each message goes to each client.
func handleMessages() {
	for message := range broadcast {
		for client := range clients {
			if err := client.WriteMessage(websocket.TextMessage, message); err != nil {
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
