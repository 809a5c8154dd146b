// SPDX-License-Identifier: MIT

package main

// What is measured and how it is shown: series of figures, rows that compare two of them with a bar.

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
)

// A series is what one worker answered to one question, a figure a round.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := append(series(nil), s...)
	sort.Float64s(sorted)
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// over is the median of the rounds' own ratios. A machine that changes its pace between rounds changes both figures
// of a round, but the ratio of two medians may take one from the fast rounds and one from the slow.
func (s series) over(other series) float64 {
	var ratios series
	for i := 0; i < len(s) && i < len(other); i++ {
		ratios = append(ratios, s[i]/other[i])
	}
	return ratios.median()
}

// A row compares ours with a peer's, or with a bar alone. Ratio is what the bar speaks of.
type row struct {
	What  string  `json:"what"`
	Ours  float64 `json:"ours"`
	Peer  string  `json:"peer,omitempty"`
	Their float64 `json:"peer_figure,omitempty"`
	Unit  string  `json:"unit"`
	Ratio float64 `json:"ratio,omitempty"`
	Bar   string  `json:"bar,omitempty"`
	Met   *bool   `json:"met,omitempty"`
	Error string  `json:"error,omitempty"`

	section string  // in front of What, where the section's title does not stand above
	exact   bool    // the ratio differs from 1 by percents
	spent   float64 // of the bar: 1 is all of it
}

type table struct {
	Machine string `json:"machine"`
	Method  string `json:"method"`
	Rounds  int    `json:"rounds"`
	Rows    []row  `json:"rows"`
	name    string
	prefix  string
	missed  int
}

func (t *table) add(r row) {
	r.section = t.prefix
	t.Rows = append(t.Rows, r)
	if r.Error != "" || (r.Met != nil && !*r.Met) {
		t.missed++
	}
	fmt.Println(r)
}

// begin prints what stands above everything: the machine, and how it was measured.
func (t *table) begin(method string) {
	t.Method = method
	fmt.Printf("%s; %s\n", t.Machine, method)
}

// section begins one; prefix says in a word what its rows are about.
func (t *table) section(prefix, title string) {
	t.prefix = prefix + ": "
	fmt.Printf("\n%s\n", title)
}

func (r row) String() string {
	if r.Error != "" {
		return fmt.Sprintf("  %-44s not measured: %s", r.What, r.Error)
	}
	line := fmt.Sprintf("  %-44s %10s", r.What, figure(r.Ours, r.Unit))
	if r.Peer != "" {
		line += fmt.Sprintf("   %-22s %10s  %7sx", r.Peer, figure(r.Their, r.Unit), r.ratio())
	} else {
		line += fmt.Sprintf("   %-22s %10s  %8s", "", "", "")
	}
	if r.Met == nil {
		return line
	}
	verdict := "MISS"
	if *r.Met {
		verdict = "ok"
	}
	return line + fmt.Sprintf("   bar %-12s %s", r.Bar, verdict)
}

// ratio has three digits where the bar is within percents.
func (r row) ratio() string {
	if r.exact {
		return fmt.Sprintf("%.3f", r.Ratio)
	}
	return fmt.Sprintf("%.2f", r.Ratio)
}

func figure(value float64, unit string) string {
	switch {
	case unit == "ns" && value >= 1e6:
		return fmt.Sprintf("%.2f ms", value/1e6)
	case unit == "ns" && value >= 1e4:
		return fmt.Sprintf("%.1f us", value/1e3)
	case unit == "B" && value >= 1<<20:
		return fmt.Sprintf("%.2f MB", value/(1<<20))
	case unit == "B" && value >= 1e4:
		return fmt.Sprintf("%.1f KB", value/(1<<10))
	case unit == "us" || unit == "points":
		return fmt.Sprintf("%.2f %s", value, unit)
	case unit == "":
		return fmt.Sprintf("%.0f", value)
	case unit == "%":
		return fmt.Sprintf("%.2f%%", value)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}

// faster is met where the peer takes at least bar times as long; no bar where it is 0.
func faster(what string, ours series, peer string, theirs series, bar float64) row {
	ratio := theirs.over(ours)
	r := row{What: what, Ours: ours.median(), Peer: peer, Their: theirs.median(), Unit: "ns", Ratio: ratio}
	if bar != 0 {
		met := ratio >= bar
		r.Bar, r.Met = fmt.Sprintf(">= %gx faster", bar), &met
	}
	return r
}

// atMost is met where ours takes at most bar times what the peer takes; no bar where it is 0.
func atMost(what string, ours series, peer string, theirs series, bar float64) row {
	ratio := ours.over(theirs)
	r := row{What: what, Ours: ours.median(), Peer: peer, Their: theirs.median(), Unit: "ns", Ratio: ratio}
	if bar != 0 {
		met := ratio <= bar
		r.Bar, r.Met = fmt.Sprintf("<= %gx", bar), &met
	}
	return r
}

// below is met where the figure is below the bar; no bar where it is 0.
func below(what string, figure_ float64, unit string, bar float64) row {
	r := row{What: what, Ours: figure_, Unit: unit}
	if bar != 0 {
		met := figure_ <= bar
		r.Bar, r.Met, r.spent = "<= "+figure(bar, unit), &met, figure_/bar
	}
	return r
}

// within is met where the two figures differ by at most so many percent.
func within(what string, ours float64, peer string, theirs float64, unit string, percent float64) row {
	r := row{What: what, Ours: ours, Peer: peer, Their: theirs, Unit: unit, exact: true}
	if theirs != 0 {
		r.Ratio = ours / theirs
	}
	met := math.Abs(ours-theirs)*100 <= percent*theirs
	r.spent = math.Abs(ours-theirs) * 100 / (percent * theirs)
	r.Bar, r.Met = fmt.Sprintf("within %g%%", percent), &met
	return r
}

// beside shows a peer's figure next to ours, whatever the bar speaks of.
func (r row) beside(peer string, theirs series) row {
	r.Peer, r.Their = peer, theirs.median()
	if r.Ours > 0 && r.Their > 0 { // of differences that drown in what else the machine does there is no ratio
		r.Ratio = r.Ours / r.Their
	}
	return r
}

func (t *table) writeJSON(path string) error {
	text, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
