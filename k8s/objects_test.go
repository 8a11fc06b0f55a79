package k8s_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// An object is one YAML document of a manifest.
type object = map[string]any

// load returns the objects of the files that match the pattern; some must.
func load(t *testing.T, pattern string) (objects []object) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests match %s: %v", pattern, err)
	}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(read(t, file))); ; {
			var o object
			if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			objects = append(objects, o)
		}
	}
	return objects
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// at returns what stands at a path such as "spec ports 0 name" below v, or nil.
func at(v any, path string) any {
	for key := range strings.FieldsSeq(path) {
		switch below := v.(type) {
		case map[string]any:
			v = below[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(below) {
				return nil
			}
			v = below[i]
		default:
			return nil
		}
	}
	return v
}

const set = "set" // to whatever

// check compares what stands at these paths below v.
func check(t *testing.T, v any, want object) {
	t.Helper()
	for path, w := range want {
		if got := at(v, path); w == set && got == nil || w != set && got != w {
			t.Errorf("%s is %v, want %v, in\n%v", path, got, w, v)
		}
	}
}

func text(v any, path string) string { s, _ := at(v, path).(string); return s }

func number(v any, path string) int { n, _ := at(v, path).(int); return n }

func list(v any, path string) []any { l, _ := at(v, path).([]any); return l }

func name(o object) string { return text(o, "kind") + " " + text(o, "metadata name") }

// find returns the object of a kind and name, as in "Service kafka".
func find(t *testing.T, objects []object, want string) object {
	t.Helper()
	i := slices.IndexFunc(objects, func(o object) bool { return name(o) == want })
	if i < 0 {
		t.Fatalf("there is no %s", want)
	}
	return objects[i]
}

// workloads are the objects that make pods.
func workloads(objects []object) []object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return at(o, "spec template") == nil })
}

// matches tells whether a selector, with or without matchLabels, selects pods with these labels. An
// empty selector selects all.
func matches(selector, labels any) bool {
	if l, ok := at(selector, "matchLabels").(map[string]any); ok {
		selector = l
	}
	m, _ := selector.(map[string]any)
	for key, value := range m {
		if text(labels, key) != value {
			return false
		}
	}
	return true
}

// quantity returns 1000ths of a CPU for 50m, and bytes for 128Mi.
func quantity(t *testing.T, s string) int {
	t.Helper()
	units := map[string]int{"m": 1, "Mi": 1 << 20, "Gi": 1 << 30}
	unit := strings.TrimLeft(s, "0123456789")
	n, err := strconv.Atoi(strings.TrimSuffix(s, unit))
	if err != nil || units[unit] == 0 {
		t.Fatalf("%q is not an amount of CPU or memory", s)
	}
	return n * units[unit]
}
