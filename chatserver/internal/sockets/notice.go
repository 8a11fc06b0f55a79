package sockets

import "slices"

// Notice names a frame of which only the newest matters, the same for all connections. The notice
// with the number 0 is sent again with each ping.
type Notice int

type notice struct {
	version uint64
	frame   []byte
}

// SetNotice sends payload to all connections that get notices, now and when they come.
func (l *Loop) SetNotice(which Notice, payload []byte) {
	frame := AppendText(nil, payload)
	l.mu.Lock()
	for int(which) >= len(l.notices) {
		l.notices = append(l.notices, notice{})
	}
	version := l.noticeVersion.Load() + 1
	l.notices[which] = notice{version, frame}
	l.noticeVersion.Store(version)
	l.mu.Unlock()
	l.Wake()
}

// notice returns the frame of one notice, nil if there is none.
func (l *Loop) notice(which Notice) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(which) >= len(l.notices) {
		return nil
	}
	return l.notices[which].frame
}

func (l *Loop) noticesSince(version uint64) (frames []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.notices {
		switch {
		case n.version <= version:
		case frames == nil:
			frames = slices.Clip(n.frame) // shared by all that miss only this one
		default:
			frames = append(frames, n.frame...)
		}
	}
	return frames
}
