// Package room admits clients to a pod and takes their messages. The package decides how many
// clients may connect, from which web sites and under which names, how fast a client may send, and
// which answer it gets.
package room

import (
	"cmp"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/sockets"
)

// Limits do not change after New.
type Limits struct {
	Connections    int            // websockets at once; 0: as many as the process may open files for
	PerAddress     int            // websockets from one address; 0: no limit
	Hosts          []string       // names of this server besides those of its machine; "*": all
	Origins        []string       // other web sites whose pages may connect, as Site spells them; "*": all
	TrustedProxies []netip.Prefix // whose X-Forwarded-For and UserHeader are believed
	UserHeader     string         // header in which these proxies name the person; "": no sign-in
	MessageBytes   int            // of the longest text
	MessageRate    int            // messages a second of one client, after a burst
	ByteRate       int            // bytes a second of one client, after a burst
}

// Config is what a Room needs. All fields are required.
type Config struct {
	Limits         Limits
	Pod            string        // stands in each message
	PublishTimeout time.Duration // of a client without chat.v1
	Sockets        *sockets.Loop
	Metrics        *ops.Metrics
	Log            *slog.Logger
	// Welcome returns a client's first event. Name is the name of the signed-in person, else "".
	Welcome func(name string) chat.Welcome
	// Place returns where a client starts in the log, with chat.v1 and without. The error means
	// that the query is not valid.
	Place func(query url.Values, welcome func() chat.Welcome) (asChat, asRaw sockets.Place, err error)
}

// The notices for all chat.v1 clients. A client gets the newest of each kind.
const (
	StatusNotice = sockets.PingedNotice     // whether Kafka can be used
	PodsNotice   = sockets.PingedNotice + 1 // the list of pods
)

// All requests share one Room.
type Room struct {
	Config
	names       []string      // of this machine
	limit       int           // websockets at once
	messageTime time.Duration // for a message from its first byte to its last
	upgrader    websocket.Upgrader
	plain       int // other HTTP connections at once
	unread      unread

	mu      sync.Mutex             // guards the following
	logged  map[*refusal]time.Time // when each was logged last
	closed  bool
	inside  int
	from    map[netip.Prefix]int // clients by the network that counts as one address
	present sync.WaitGroup       // the clients that are inside; none is added once the room is closed
}

// New returns an open room.
func New(c Config) *Room {
	r := &Room{
		Config: c, names: machineNames(), messageTime: messageTime, logged: make(map[*refusal]time.Time),
		unread: unread{free: UnreadBytes, reading: make(map[*Client]int)}, from: make(map[netip.Prefix]int),
	}
	r.limit, r.plain = share(c.Limits.Connections, maxFiles())
	if r.limit < c.Limits.Connections/2 {
		c.Log.Warn("the process may not open as many files as MAX_CONNECTIONS needs: raise ulimit -n", "websockets", r.limit, "asked", c.Limits.Connections)
	}
	r.upgrader = websocket.Upgrader{
		Subprotocols:     []string{chat.Protocol},
		CheckOrigin:      func(*http.Request) bool { return true }, // admit has checked it
		ReadBufferSize:   128,                                      // most connections are idle; a message is read into a buffer of its own
		WriteBufferPool:  &sync.Pool{},                             // only for the handshake's answer
		HandshakeTimeout: 10 * time.Second,
		Error: func(w http.ResponseWriter, req *http.Request, status int, reason error) {
			r.refuse(w, req, handshakeFault(req, status, reason))
		},
	}
	return r
}

// spareFiles are kept for connections to Kafka, the admin port, and the embedded broker.
const spareFiles = 64

// share divides the files that the process may open into websockets and other HTTP connections.
func share(connections, files int) (websockets, plain int) {
	free := files - min(spareFiles, files/2)
	plain = min(max(free/8, 4), 512)
	return min(free-plain, cmp.Or(connections, math.MaxInt)), plain
}

// Enter upgrades a request to Server to a websocket. On an error the request has been answered.
func (r *Room) Enter(w http.ResponseWriter, req *http.Request) (*Client, error) {
	name, _ := r.person(req)
	asChat, asRaw, err := r.Place(req.URL.Query(), func() chat.Welcome { return r.Welcome(name) })
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, err
	}
	network, refused := r.admit(req)
	if refused != nil {
		return nil, r.refuse(w, req, refused)
	}
	c := &Client{room: r, name: name, network: network}
	options := func(protocol string) sockets.Options { return c.options(protocol, asChat, asRaw) }
	if c.conn, err = r.Sockets.Upgrade(w, req, &r.upgrader, options); err != nil {
		r.leave(network)
		r.Log.Debug("no websocket", "remote", req.RemoteAddr, "err", err)
		return nil, err
	}
	return c, nil
}

// admit counts a client for its network until leave is called.
func (r *Room) admit(req *http.Request) (network netip.Prefix, refused *refusal) {
	if !r.ownOrigin(req) {
		return network, refusedOrigin
	}
	// IPv6 addresses with the same first half count as one: the holder of one has them all.
	addr := r.address(req)
	network, _ = addr.Prefix(min(addr.BitLen(), 64))
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return network, refusedStopping
	case r.inside >= r.limit:
		return network, refusedFull
	case r.Limits.PerAddress > 0 && r.from[network] >= r.Limits.PerAddress:
		return network, refusedAddress
	}
	r.inside++
	r.from[network]++
	r.present.Add(1)
	return network, nil
}

func (r *Room) leave(network netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	if r.from[network]--; r.from[network] == 0 {
		delete(r.from, network)
	}
	r.present.Done()
}

// Ready returns why no client is admitted, or nil.
func (r *Room) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("the server is stopping")
	}
	return nil
}

// comeBack is the time within which a closed client shall connect again. It is short, since the
// drain itself is spread over time.
const comeBack = 500 * time.Millisecond

// Drain refuses new clients, and closes the connections of the others, spread over as much of limit
// as their number needs.
func (r *Room) Drain(limit time.Duration) {
	r.mu.Lock()
	r.closed = true
	inside := r.inside
	r.mu.Unlock()
	r.Log.Info("stopping", "clients", inside)
	r.Sockets.Drain(limit, chat.Event("reconnect", map[string]int64{"within_ms": comeBack.Milliseconds()}), "the server is restarting, please reconnect")
}

// Wait returns when every client's Talk has ended. It is called after Drain.
func (r *Room) Wait() { r.present.Wait() }
