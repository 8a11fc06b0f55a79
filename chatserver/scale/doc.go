// Package scale measures how far the chat goes on one machine: a real Kafka, pods as processes of
// the real binary, and clients in processes of their own, so that what the pods cost and what the
// load costs are told apart. README.md says what is measured.
//
//	go test -tags scale -timeout 30m -v ./chatserver/scale/
//
// The files without a build tag are pure: messages, tally, figures. What starts processes is behind
// the tag "scale" and needs Linux and Java 17.
package scale
