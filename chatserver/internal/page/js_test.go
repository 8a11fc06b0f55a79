package page_test

import "encoding/json"

// js writes a value as JavaScript. A list of strings becomes the string of its JSON, for comparing.
func js(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	if _, list := value.([]string); list {
		return js(string(text))
	}
	return string(text)
}
