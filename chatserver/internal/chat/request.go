package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Request is a chat.v1 client's request to publish a message.
type Request struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Text  string `json:"text"`
	Again bool   `json:"again"` // it was sent before, and may be in the topic
}

// ParseRequest reads a client's event, whose text may have maxText bytes. The error is a sentence
// for the client; even then the request's ID is set if the client gave a valid one, so that the
// answer can name the message.
func ParseRequest(data []byte, maxText int) (Request, error) {
	if !utf8.Valid(data) {
		return Request{}, errors.New("the event is not UTF-8")
	}
	var event struct {
		Type string `json:"type"`
		Request
	}
	err := json.Unmarshal(data, &event) // a field of the wrong type does not stop Unmarshal at the others
	r := event.Request
	r.Name = strings.TrimSpace(r.Name)
	badID := CheckID(r.ID)
	if badID != nil {
		r.ID = ""
	}
	switch {
	case err != nil:
		return r, fmt.Errorf("the event is not a JSON object, or a field has the wrong type: %w", err)
	case event.Type != "message":
		return r, fmt.Errorf("unknown event type %.40q; a client sends \"message\"", event.Type)
	case badID != nil:
		return r, badID
	case r.Text == "":
		return r, errors.New("the message has no text")
	case len(r.Text) > maxText:
		return r, fmt.Errorf("the message has %d bytes; %d are allowed", len(r.Text), maxText)
	}
	return r, CheckName(r.Name)
}
