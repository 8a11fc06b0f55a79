//go:build linux && !long

package main

const fullAbuse = false // TestAbuse, in a size for every day
