package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The lab's calls stand in the lab's functions: SendMessage in handleWSConnections, ConsumePartition
// and Messages in handleMessages, or in the one function that handleMessages alone calls.
func TestTheLabIsVisible(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(map[string][]string) // function -> names of what is called in it
	var order []string
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		order = append(order, f.Name.Name)
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				switch fun := call.Fun.(type) {
				case *ast.SelectorExpr:
					calls[f.Name.Name] = append(calls[f.Name.Name], fun.Sel.Name)
				case *ast.Ident:
					calls[f.Name.Name] = append(calls[f.Name.Name], fun.Name)
				}
			}
			return true
		})
	}
	in := func(function, name string) bool {
		for _, c := range calls[function] {
			if c == name {
				return true
			}
		}
		return false
	}
	if !in("handleWSConnections", "SendMessage") {
		t.Errorf("handleWSConnections does not call SendMessage")
	}
	consume := "handleMessages"
	if !in(consume, "ConsumePartition") {
		for i, name := range order {
			if name == "handleMessages" && i+1 < len(order) {
				consume = order[i+1]
			}
		}
		for _, name := range order {
			if name != "handleMessages" && in(name, consume) {
				t.Errorf("%s calls %s too", name, consume)
			}
		}
		if !in("handleMessages", consume) {
			t.Errorf("handleMessages does not call %s, the function below it", consume)
		}
	}
	for _, name := range []string{"ConsumePartition", "Messages"} {
		if !in(consume, name) {
			t.Errorf("neither handleMessages nor the function below it calls %s", name)
		}
	}
}

// What the README's table says about where the lab's lines are is true.
func TestWhereTheLabsLinesAre(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	places := regexp.MustCompile("`([a-z/]+/main\\.go)`: `([A-Za-z]+)(?:\\(\\))?`").FindAllStringSubmatch(string(readme), -1)
	if len(places) < 8 {
		t.Fatalf("README.md names %d places: %q", len(places), places)
	}
	for _, place := range places {
		text, err := os.ReadFile("../" + place[1])
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(text), place[2]) {
			t.Errorf("%s does not have %s", place[1], place[2])
		}
	}
}
