//go:build !unix

package room

import "math"

// maxFiles returns no limit: Windows tells a process none.
func maxFiles() int { return math.MaxInt32 }
