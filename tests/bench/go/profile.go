// SPDX-License-Identifier: MIT

package main

// A profile as `go tool pprof -raw` reads it: the judge of what cprof writes is not cprof.

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A sample's frames are names, leaf first, inlined ones too.
type sample struct {
	count, ns int64
	frames    []string
}

type profile []sample

var (
	rawSample   = regexp.MustCompile(`^ +(\d+) +(\d+): ([\d ]*)$`)
	rawLocation = regexp.MustCompile(`^ +(\d+): (0x[0-9a-f]+) (?:M=\d+ )?(?:\[F\] )?(.*)$`)
	rawLine     = regexp.MustCompile(`^(.*) (\S*):\d+(?::\d+)? s=(\d+)$`)
	luaFunction = regexp.MustCompile(`(?m)^local function (\w+)\(`)
)

// functionsOf finds the named functions of a Lua file: a profile names them as they are called, which may be another
// name, but tells where they begin.
func functionsOf(path string) map[string]string {
	names := map[string]string{}
	text, err := os.ReadFile(path)
	if err != nil {
		fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if match := luaFunction.FindStringSubmatch(line); match != nil {
			names[fmt.Sprintf("%s:%d", filepath.Base(path), i+1)] = match[1]
		}
	}
	return names
}

// readProfile has pprof read a profile with the columns samples and nanoseconds.
func readProfile(path string, functions map[string]string) (profile, error) {
	command := exec.Command("go", "tool", "pprof", "-symbolize=none", "-raw", path)
	var errors bytes.Buffer
	command.Stderr = &errors
	text, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof -raw: %w: %s", err, errors.String())
	}
	p, locations := parseRaw(text, functions)
	if len(p) == 0 {
		return nil, fmt.Errorf("go tool pprof -raw: no samples")
	}
	for i := range p {
		var names []string
		for _, id := range p[i].frames {
			names = append(names, locations[id]...)
		}
		p[i].frames = names
	}
	return p, nil
}

// parseRaw answers samples whose frames are still numbers of locations, and the names at each.
func parseRaw(text []byte, functions map[string]string) (p profile, locations map[string][]string) {
	locations = map[string][]string{}
	part, last := "", ""
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "Samples:" || line == "Locations" || line == "Mappings" {
			part = line
		} else if match := rawSample.FindStringSubmatch(line); match != nil && part == "Samples:" {
			count, _ := strconv.ParseInt(match[1], 10, 64)
			ns, _ := strconv.ParseInt(match[2], 10, 64)
			p = append(p, sample{count, ns, strings.Fields(match[3])})
		} else if part == "Locations" {
			name := strings.TrimSpace(line)
			if match := rawLocation.FindStringSubmatch(line); match != nil {
				last, name = match[1], match[3]
			}
			locations[last] = append(locations[last], nameOf(name, functions))
		}
	}
	return p, locations
}

func nameOf(line string, functions map[string]string) string {
	match := rawLine.FindStringSubmatch(line)
	if match == nil {
		return line
	}
	if name, ok := functions[filepath.Base(match[2])+":"+match[3]]; ok {
		return name
	}
	return match[1]
}

// A path is names on a stack, outermost first, others between them allowed.
type path []string

func (s sample) has(names path) bool {
	at := 0
	for i := len(s.frames) - 1; i >= 0 && at < len(names); i-- {
		if s.frames[i] == names[at] {
			at++
		}
	}
	return at == len(names)
}

// total answers all samples and nanoseconds.
func (p profile) total() (count, ns int64) {
	for _, s := range p {
		count += s.count
		ns += s.ns
	}
	return count, ns
}

// share is what the stacks with these names have of all, in percent.
func (p profile) share(names ...string) float64 {
	_, all := p.total()
	var ns int64
	for _, s := range p {
		if s.has(names) {
			ns += s.ns
		}
	}
	return 100 * float64(ns) / float64(all)
}
