package main

import (
	"cmp"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Modules that are known to be vulnerable are at versions that are not. It is no replacement for
// govulncheck, which knows the newest, but it needs no network.
func TestNoKnownVulnerabilities(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("../.ci/vulnerabilities.txt")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", "-test", "-f", "{{with .Module}}{{$.ImportPath}} {{.Path}} {{.Version}}{{end}}", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing what is used: %v", err)
	}
	used := make(map[string]string) // module or package: version
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 {
			used[f[0]], used[f[1]] = f[2], f[2]
		}
	}
	for _, module := range []string{"github.com/Shopify/sarama", "github.com/gorilla/websocket", "golang.org/x/net"} {
		if used[module] == "" {
			t.Errorf("%s is not among what is used, so this test sees nothing", module)
		}
	}
	entries := 0
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("not a module, a version and an advisory: %q", line)
		}
		entries++
		switch version, ok := used[f[0]]; {
		case !ok:
		case f[1] == "-":
			t.Errorf("%s is used, and has %s, which no version fixes", f[0], f[2])
		case compareVersions(version, f[1]) < 0:
			t.Errorf("%s %s has %s: go get %s@%s or newer", f[0], version, f[2], f[0], f[1])
		}
	}
	if entries == 0 {
		t.Error("the list is empty")
	}
}

// compareVersions compares v1.2.3 and v1.2.3-something, of which the latter comes before v1.2.3.
func compareVersions(a, b string) int {
	a, preA, isPreA := strings.Cut(strings.TrimSuffix(a, "+incompatible"), "-")
	b, preB, isPreB := strings.Cut(strings.TrimSuffix(b, "+incompatible"), "-")
	numbers := func(version string) (n []int) {
		for part := range strings.SplitSeq(strings.TrimPrefix(version, "v"), ".") {
			i, _ := strconv.Atoi(part)
			n = append(n, i)
		}
		return n
	}
	if c := slices.Compare(numbers(a), numbers(b)); c != 0 || !isPreA && !isPreB {
		return c
	}
	if isPreA != isPreB {
		if isPreA {
			return -1
		}
		return 1
	}
	return cmp.Compare(preA, preB)
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	ascending := []string{"v0.0.0-20190125091013-d26f9f9a57f3", "v0.0.0-20210428140749-89ef3d95e781", "v0.9.0", "v0.10.0-rc.1", "v0.10.0", "v0.10.1", "v1.0.0", "v2.0.0+incompatible"}
	for i := range ascending {
		for j := range ascending {
			if got, want := compareVersions(ascending[i], ascending[j]), cmp.Compare(i, j); got != want {
				t.Errorf("%s and %s: %d, want %d", ascending[i], ascending[j], got, want)
			}
		}
	}
}
