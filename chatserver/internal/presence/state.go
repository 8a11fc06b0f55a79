package presence

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"kafkachat/chatserver/internal/chat"
)

const (
	maxRecord   = 2 << 10 // bytes; a pod's name can be six times as long in JSON as chat.MaxPod
	maxInstance = 64      // bytes
	maxPeople   = 1_000_000
)

// A state is what a pod says, as JSON.
type state struct {
	Pod
	Instance string `json:"instance"`        // random, of one process: two pods may have the same name
	Seq      int64  `json:"seq"`             // grows with each record of an instance
	Hello    bool   `json:"hello,omitempty"` // please answer
	Goodbye  bool   `json:"goodbye,omitempty"`
}

func (s state) encode() []byte {
	value, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings, numbers and booleans can always be written
	}
	return value
}

// decode returns what a record says, if it can be a pod's: everything in it is bounded, since it stays in
// memory and is sent to every client.
func decode(value []byte) (s state, ok bool) {
	if len(value) > maxRecord || json.Unmarshal(value, &s) != nil {
		return state{}, false
	}
	return s, s.Name != "" && len(s.Name) <= chat.MaxPod && printable(s.Name) &&
		s.Instance != "" && len(s.Instance) <= maxInstance && printable(s.Instance) &&
		s.Seq > 0 && s.People >= 0 && s.People <= maxPeople && s.Offset >= 0 && s.End >= 0
}

// printable excludes what turns or hides the text around it, such as U+202E.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
