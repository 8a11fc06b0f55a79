package scale

import (
	"fmt"
	"math"
	"strings"
)

// A panel is a diagram over the number of pods, with a line for each series.
type panel struct {
	left   int // of its drawing area
	title  string
	series []series
}

type series struct {
	name, colour string
	of           func(figures) float64
}

const (
	plotWidth, plotHeight = 760, 300
	areaWidth, areaHeight = 300, 180 // of a panel's drawing area
	areaTop               = 70
)

// plot is an SVG picture of the ladder.
func plot(rungs []rung) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#333">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	const blue, orange, green = "#1f6fb4", "#c2570c", "#2a7d46" // each readable on white
	for _, p := range []panel{
		{60, "CPU of the pods per delivery, ns", []series{{"all", blue, cpu}, {"without publishing", green, fanOut}}},
		{440, "From sending to the screen, ms", []series{{"p50", green, p50}, {"p99", blue, p99}, {"p99.9", orange, p999}}},
	} {
		p.draw(&b, rungs)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p panel) draw(b *strings.Builder, rungs []rung) {
	highest := 0.0
	for _, s := range p.series {
		for _, r := range rungs {
			highest = max(highest, r.median(s.of))
		}
	}
	end := axis(highest)
	y := func(value float64) float64 { return areaTop + areaHeight*(1-value/end) }
	x := func(i int) float64 { // the rungs are at equal distances, since each has twice the pods
		return float64(p.left) + areaWidth*(float64(i)+0.5)/float64(len(rungs))
	}
	fmt.Fprintf(b, `<text x="%d" y="24" font-size="14" font-weight="bold">%s</text>`+"\n", p.left, p.title)
	const lines = 4
	for i := range lines + 1 {
		value := end * float64(i) / lines
		fmt.Fprintf(b, `<path d="M%d %.1fh%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			p.left, y(value), areaWidth, p.left-6, y(value)+4, value)
	}
	for i, r := range rungs {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(i), areaTop+areaHeight+20, r)
	}
	for k, s := range p.series {
		legend := p.left + k*80
		fmt.Fprintf(b, `<g stroke="%s" fill="%s"><path d="M%d 42h16" stroke-width="2"/><text x="%d" y="46" stroke="none">%s</text>`,
			s.colour, s.colour, legend, legend+21, s.name)
		var points []string
		for i, r := range rungs {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(r.median(s.of))))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3"/>`, x(i), y(r.median(s.of)))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke-width="2"/></g>`+"\n", strings.Join(points, " "))
	}
}

// axis is where an axis from 0 ends for values up to the highest: at a round number.
func axis(highest float64) float64 {
	if highest <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(highest)))
	for _, round := range []float64{1, 2, 3, 4, 5, 6, 8} {
		if highest <= round*unit {
			return round * unit
		}
	}
	return 10 * unit
}
