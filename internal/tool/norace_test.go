//go:build !race

package tool_test

// buildFlags are those of the programs under test.
var buildFlags []string
