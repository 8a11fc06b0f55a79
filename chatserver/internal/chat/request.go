package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Request is what a chat.v1 client asks: to publish a message.
type Request struct {
	ID, Name, Text string
	Again          bool // it was sent before, and may be in the topic
}

// ParseRequest reads a client's event, whose text may have maxText bytes. The error is a sentence
// for the client; the request's ID is set also then if the client gave a usable one, so that it
// can be told which message was meant.
func ParseRequest(data []byte, maxText int) (Request, error) {
	var event struct {
		Type  *string `json:"type"`
		ID    *string `json:"id"`
		Name  string  `json:"name"`
		Text  *string `json:"text"`
		Again bool    `json:"again"`
	}
	if !utf8.Valid(data) {
		return Request{}, errors.New("the event is not UTF-8")
	}
	err := json.Unmarshal(data, &event) // a field of the wrong type does not keep it from the others
	var r Request
	if event.ID != nil && CheckID(*event.ID) == nil {
		r.ID = *event.ID
	}
	switch {
	case err != nil:
		return r, fmt.Errorf("the event is not a JSON object, or a field has the wrong type: %w", err)
	case event.Type == nil:
		return r, errors.New(`the field "type" is missing`)
	case *event.Type != "message":
		return r, fmt.Errorf("unknown event type %.40q; a client sends \"message\"", *event.Type)
	case event.ID == nil:
		return r, errors.New(`the field "id" is missing`)
	case r.ID == "":
		return r, CheckID(*event.ID)
	case event.Text == nil:
		return r, errors.New(`the field "text" is missing`)
	}
	r.Name, r.Text, r.Again = strings.TrimSpace(event.Name), *event.Text, event.Again
	switch {
	case r.Text == "":
		return r, errors.New("the message is empty")
	case len(r.Text) > maxText:
		return r, fmt.Errorf("the message has %d bytes; %d are allowed", len(r.Text), maxText)
	}
	return r, CheckName(r.Name)
}
