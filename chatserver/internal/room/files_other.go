//go:build !unix

package room

import "math"

// maxFiles: Windows has no limit that a process could ask for.
func maxFiles() int { return math.MaxInt32 }
