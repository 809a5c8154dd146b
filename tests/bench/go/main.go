// SPDX-License-Identifier: MIT

// The driver of `scripts/bench custom` and `scripts/bench cpu`: takes turns between cprof's workers and the peers, so
// that what else the machine does meets all of them alike, and prints medians, ratios and bars. Run again as "peer" it
// is the Go worker.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

var (
	quick  = flag.Bool("quick", false, "few rounds")
	json_  = flag.String("json", "", "also write the figures to this `file`")
	only   = flag.String("only", "", "of cpu, these parts alone")
	readme = flag.String("readme", "", "also write the figures into this `file`")
	build  = flag.String("build", "build/release", "the `folder` of the build")
	root   = flag.String("root", ".", "the `folder` of the sources")
)

var runtimes = []string{"lua5.1", "lua5.2", "lua5.3", "lua5.4", "luajit"}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// rounds is how often each question is asked.
func rounds(all, few int) int {
	if *quick {
		return few
	}
	return all
}

func newLuaWorker(name, script string, arguments ...string) *worker {
	command := []string{filepath.Join(*root, "scripts/env"), name, filepath.Join(*root, "tests/bench", script)}
	return newWorker(strings.Join(append([]string{name}, arguments...), " "), append(command, arguments...)...)
}

func machine() string {
	name := runtime.GOARCH
	text, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "model name") {
			name = strings.TrimSpace(line[strings.Index(line, ":")+1:])
			break
		}
	}
	return fmt.Sprintf("%s, %d cores, %s", name, runtime.NumCPU(), runtime.Version())
}

// A question to a worker, and the series that its answers make, one for each number.
type question struct {
	who     *worker
	text    string
	figure  series
	answers [][]float64
}

func ask(who *worker, format string, args ...any) *question {
	return &question{who: who, text: fmt.Sprintf(format, args...)}
}

// takeTurns asks each question once a round, after one round that is thrown away.
func takeTurns(rounds int, questions ...*question) error {
	for round := -1; round < rounds; round++ {
		for _, q := range questions {
			answer, err := q.who.ask("%s", q.text)
			if err != nil {
				return err
			}
			if round >= 0 {
				q.figure = append(q.figure, answer[0])
				q.answers = append(q.answers, answer)
			}
		}
	}
	return nil
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "peer" {
		runPeer()
		return
	}
	flag.Parse()
	t := table{Machine: machine(), name: flag.Arg(0)}
	switch t.name {
	case "custom":
		runCustom(&t)
	case "cpu":
		runCPU(&t)
	default:
		fatal(fmt.Errorf("no benchmark '%s'", t.name))
	}
	fmt.Printf("\n%d figures, %d bars missed\n", len(t.Rows), t.missed)
	if *json_ != "" {
		if err := t.writeJSON(*json_); err != nil {
			fatal(err)
		}
	}
	if *readme != "" {
		if err := t.writeReadme(*readme); err != nil {
			fatal(err)
		}
	}
	if t.missed != 0 {
		os.Exit(3)
	}
}
