// SPDX-License-Identifier: MIT

package main

// The figures in the README: a table between two marks, written by the run that measured them.

import (
	"fmt"
	"os"
	"strings"
	"time"
)

const readmeEnd = "<!-- end of figures -->\n"

func (t *table) readmeBegin() string {
	return fmt.Sprintf("<!-- figures: scripts/bench %s --readme -->\n", t.name)
}

// Of a section with more rows than these, all with the same question, a reader wants the worst.
const sectionMax = 8

// brief leaves one row of each long section, the one that spends most of its bar.
func brief(rows []row) []row {
	var left []row
	for len(rows) > 0 {
		n, barred, worst := 0, 0, rows[0]
		for n < len(rows) && rows[n].section == rows[0].section {
			if r := rows[n]; r.Met != nil {
				barred++
				if worst.Met == nil || r.spent > worst.spent {
					worst = r
				}
			}
			n++
		}
		if barred > sectionMax {
			worst.What = fmt.Sprintf("the worst of %d, %s", barred, worst.What)
			left = append(left, worst)
		} else {
			left = append(left, rows[:n]...)
		}
		rows = rows[n:]
	}
	return left
}

// markdown shows the rows that have a bar or a peer; of the figures for memory the resident ones, the larger.
func (t *table) markdown() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s, %s; %s.\n\n", t.Machine, time.Now().UTC().Format("January 2006"), t.Method)
	text.WriteString("| | cprof | peer | ratio | bar |\n| --- | ---: | ---: | ---: | --- |\n")
	rows := t.Rows
	if t.name == "cpu" {
		rows = brief(rows)
	}
	for _, r := range rows {
		if r.Error != "" || (r.Met == nil && r.Peer == "") || strings.HasSuffix(r.What, ", allocated") {
			continue
		}
		peer, ratio, bar := "", "", ""
		if r.Peer != "" {
			peer, ratio = r.Peer+" "+figure(r.Their, r.Unit), r.ratio()
		}
		if r.Met != nil {
			bar = r.Bar + map[bool]string{true: "", false: " (missed)"}[*r.Met]
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s |\n", r.section+r.What, figure(r.Ours, r.Unit), peer, ratio, bar)
	}
	return text.String()
}

func (t *table) writeReadme(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), t.readmeBegin())
	_, after, ended := strings.Cut(rest, readmeEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the figures", path)
	}
	return os.WriteFile(path, []byte(before+t.readmeBegin()+t.markdown()+readmeEnd+after), 0o644)
}
