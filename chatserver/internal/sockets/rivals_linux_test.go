package sockets_test

import (
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// lab is the lab's first solution: under a mutex, a WriteMessage to each client of a map.
type lab struct {
	mu      sync.Mutex
	clients map[*websocket.Conn]bool
}

func (f *lab) join(w http.ResponseWriter, r *http.Request) {
	conn := upgrade(w, r, &websocket.Upgrader{})
	f.mu.Lock()
	f.clients[conn] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.clients, conn)
		f.mu.Unlock()
		conn.Close()
	}()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

func (f *lab) joined() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.clients)
}

func (f *lab) send(n int64) int {
	message := []byte(payload(n))
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.clients {
		if err := conn.WriteMessage(websocket.TextMessage, message); err != nil {
			panic(err)
		}
	}
	return len(message) + 4
}

// prepared encodes each message once, and has a channel and a goroutine for each client. Who
// sends waits for full channels, so that nothing is lost.
type prepared struct {
	mu      sync.Mutex
	clients []chan *websocket.PreparedMessage
}

func (f *prepared) join(w http.ResponseWriter, r *http.Request) {
	conn := upgrade(w, r, &websocket.Upgrader{})
	defer conn.Close()
	messages := make(chan *websocket.PreparedMessage, 256)
	f.mu.Lock()
	f.clients = append(f.clients, messages)
	f.mu.Unlock()
	go func() {
		for m := range messages {
			if err := conn.WritePreparedMessage(m); err != nil {
				panic(err)
			}
		}
	}()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

func (f *prepared) joined() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.clients)
}

func (f *prepared) send(n int64) int {
	message := payload(n)
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte(message))
	if err != nil {
		panic(err)
	}
	for _, messages := range f.clients {
		messages <- m
	}
	return len(message) + 4
}
