package sockets

import "kafkachat/chatserver/internal/framelog"

// Options say how a connection is served. All fields are required.
type Options struct {
	Track   int   // of the log, that is the encoding
	Notices bool  // whether it gets the loop's notices and survives a reset of the log
	Limit   int64 // bytes of the longest message that is read
}

// Place says where a connection starts in the log; it must not block. As long as it returns
// false it is asked again whenever the log has grown and once a second, and what it returned
// as Hello is sent all the same.
type Place func(log *framelog.Log) (Placement, bool)

// A Placement is the answer to where a connection starts in the log.
type Placement struct {
	Hello []byte // frames to send first; may be nil
	From  int64  // then everything from this offset on
	Mark  int64  // between the frames before and from this offset on, MarkFrames are sent
	// MarkFrames may be nil.
	MarkFrames []byte
}
