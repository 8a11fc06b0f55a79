//go:build !long

package sockets_test

// long is how many times longer than usual the tests with random input last.
const long = 1
