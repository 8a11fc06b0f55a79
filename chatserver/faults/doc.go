// Package faults shows what people in the chat see when something fails: real Kafka processes,
// real pods, and clients that behave as the page does, under load, while one fault after another
// happens. It counts every message that was lost, shown twice or out of order.
//
//	go test -tags faults -timeout 20m ./chatserver/faults/                            all faults once, 8 s each
//	go test -tags faults -timeout 90m ./chatserver/faults/ -faults.load 30s -faults.runs 3   the table in the README
//	go test -tags faults ./chatserver/faults/ -run TestFaults/kill -faults.seed 7     some of them, with given randomness
//	go test -tags mutants -timeout 40m ./chatserver/faults/ -run 'TestMutants$'        that the suite can fail
//
// The topic itself, read once more at the end of each fault, is what the clients are compared
// with: each must have been shown the first copy of every record, in the topic's order, once,
// from the place on where it came in.
//
// This file and those without a build tag hold the judgement, which is pure; the world in which
// things fail is behind the tag "faults" and needs Linux and Java 17.
package faults
