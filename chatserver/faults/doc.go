// Package faults shows what people in the chat see when something fails: real Kafka processes,
// real pods, and clients that behave as the page does, under load, while one fault after another
// happens. At the end of each fault, the suite reads the topic once more and compares the clients
// with the topic: each must have been shown the first copy of every record once, in order, from its
// first position on.
//
// The files without a build tag hold the judgement, which is pure. The files that start processes
// need the tag "faults", Linux and Java 17.
package faults
