// Package scale measures how far the chat goes on one machine: a real Kafka, pods as processes of
// the real binary, and clients in processes of their own, so that what the pods cost and what the
// load costs are told apart.
//
//	go test -tags scale -timeout 30m -v ./chatserver/scale/ -scale.table FILE.md -scale.plot FILE.svg
//
// TestScale/ladder takes 1, 2, 4 and 8 pods with the same number of clients each: what a delivery and a
// consumed message cost, how long a message takes to the screens, and whether all clients were
// shown the same messages in the same order, each once. TestScale/idle has many clients come and do
// nothing, and then sends them a message.
//
// This file and those without a build tag are pure: messages, judgement, table, plot. What starts
// processes is behind the tag "scale" and needs Linux and Java 17.
package scale
