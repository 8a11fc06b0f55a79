//go:build !unix

package room

import "math"

// maxFiles has no limit: a process cannot ask Windows for one.
func maxFiles() int { return math.MaxInt32 }
