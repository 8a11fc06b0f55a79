// Package scale measures how far the chat goes on one machine: a real Kafka, pods as processes of
// the real binary, and clients in processes of their own, so that the cost of the pods and the cost
// of the load are measured apart. README.md says what is measured, and how to run the suite.
//
// The files without a build tag are pure: messages, tally, figures. The files that start processes
// need the tag "scale", Linux and Java 17.
package scale
