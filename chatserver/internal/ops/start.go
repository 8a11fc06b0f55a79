package ops

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"kafkachat/internal/cli"
)

// Logger returns a logger that writes text for a person at a terminal, and JSON for a program that
// collects logs.
func Logger(w io.Writer, level slog.Level, pod string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if cli.Terminal(w) {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(handler).With("pod", pod)
}

// Edition names the source that this program was built from, if the build knows the source.
func Edition() string {
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel" // as with go run, or built outside a repository
}

// Listen listens on the port of the chat, and for metrics and profiler on adminAddr. If adminAddr
// is "", Listen takes the usual port, or any free port if that one is in use: several servers can
// run on one laptop.
func Listen(port int, adminAddr string) (chat, admin net.Listener, err error) {
	if chat, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err != nil {
		return nil, nil, fmt.Errorf("port %d cannot be used, perhaps because another chatserver uses it: stop that server, or set PORT to another port, such as PORT=%d (%w)", port, port+1, err)
	}
	if admin, err = net.Listen("tcp", cmp.Or(adminAddr, "127.0.0.1:9090")); err != nil && adminAddr == "" {
		admin, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		chat.Close()
		return nil, nil, fmt.Errorf("ADMIN_ADDR=%q cannot be used, choose another address: %w", adminAddr, err)
	}
	return chat, admin, nil
}

// settled bounds how long the greeting at a terminal waits for the pod to be ready. Warnings about
// Kafka come first, so the address is the last line of the start.
const settled = 5 * time.Second

// Greet writes the chat's address to w: at a terminal when the pod is ready, or after settled; else
// at once, as a line of the log. Network says whether other machines of this network get an address
// too.
func Greet(ctx context.Context, w io.Writer, pod string, port int, network bool, ready func() error) {
	local, others := fmt.Sprintf("http://localhost:%d", port), ""
	if addr := Outward(); network && addr != "" {
		others = "http://" + net.JoinHostPort(addr, fmt.Sprint(port))
	}
	if !cli.Terminal(w) {
		Logger(w, slog.LevelInfo, pod).Info("chatting", "open", local, "network", others, "edition", Edition())
		return
	}
	for begun := time.Now(); ready() != nil && time.Since(begun) < settled && ctx.Err() == nil; {
		time.Sleep(settled / 200)
	}
	if ctx.Err() == nil {
		greet(w, pod, local, others, ready() == nil)
	}
}

func greet(w io.Writer, pod, local, others string, ready bool) {
	fmt.Fprintf(w, "\nChatting on %s, edition %s.\n", pod, Edition())
	if !ready {
		fmt.Fprintln(w, "The pod waits for Kafka. The page shows the chat when Kafka has answered.")
	}
	if others != "" {
		fmt.Fprintf(w, "Others on this network open %s\n", others)
	}
	fmt.Fprintf(w, "Open\n\n    %s\n\n", local)
}

// Outward returns this machine's address on the way to other networks, "" if there is none. Nothing
// is sent: UDP only looks up the way.
func Outward() string {
	conn, err := net.Dial("udp4", "192.0.2.1:9") // an address for documentation (RFC 5737)
	if err != nil {
		return ""
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String()
}
