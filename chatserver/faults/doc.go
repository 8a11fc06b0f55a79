// Package faults shows what people in the chat see when something fails: real Kafka processes,
// real pods, and clients that behave as the page does, under load, while one fault after another
// happens. It counts every message that was lost, shown twice or out of order.
//
// The topic itself, read once more at the end of each fault, is what the clients are compared
// with: each must have been shown the first copy of every record, in the topic's order, once,
// from the place on where it came in.
//
// This file and those without a build tag hold the judgement, which is pure; the world in which
// things fail is behind the tag "faults" and needs Linux and Java 17.
package faults
