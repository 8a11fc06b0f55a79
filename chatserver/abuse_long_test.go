//go:build linux && long

package main

const fullAbuse = true // TestAbuse, in its full size
