// SPDX-License-Identifier: MIT

package main

// What sampling costs, and that it costs nothing where it is off.

import (
	"bytes"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// ---- A sample ----

// Units of work that take some 50 ms, by what one of 80 us (C) or so many passes (Lua) takes; see the workers.
func unitsOf(who *worker, format string) int {
	const trial, tries = 100, 4
	least := math.Inf(1)
	for i := 0; i < tries; i++ {
		answer, err := who.ask(format, 1, trial)
		if err != nil || answer[0] <= 0 {
			return trial
		}
		least = math.Min(least, answer[0])
	}
	return 1 + int(trial*50e6/least)
}

// Of a worker's answers to "cost", the round's: microseconds a sample, and percent more time.
func costOf(q *question) (us, percent, samples series) {
	for _, a := range q.answers {
		off, on := a[0], a[1]
		percent = append(percent, 100*(on-off)/off)
		samples = append(samples, a[2])
		if a[2] > 0 {
			us = append(us, (on-off)/1e3/a[2])
		}
	}
	return us, percent, samples
}

// costs compares the same work with and without sampling at 4000 Hz, the collector's thread included.
func (b *cpuBench) costs() {
	b.section("sample", "Cost of a sample at 4000 Hz, delivery and the collector's thread included")
	units := unitsOf(b.c, "cost 30 %d %d")
	handler := newWorker("empty handler", filepath.Join(*build, "bench/bench_cpu_worker"), "empty")
	empty := ask(handler, "cost 30 4000 %d", units)
	defer empty.who.stop()
	questions := []*question{empty, ask(b.c, "cost 30 4000 %d", units)}
	for _, name := range runtimes {
		questions = append(questions, ask(b.lua[name], "cost 20 4000 %d", unitsOf(b.lua[name], "cost 20 %d %d")))
	}
	if err := takeTurns(b.Rounds*2, questions...); err != nil {
		b.add(row{What: "a sample", Error: err.Error()})
		return
	}
	floor, _, _ := costOf(empty)
	for i, q := range questions[1:] {
		us, _, _ := costOf(q)
		if i == 0 {
			b.add(below("C, 30 native frames", us.median(), "us", 10).beside("empty handler", floor))
		} else {
			b.add(below(runtimes[i-1]+", 30 native and 20 Lua frames", us.median(), "us", 20).beside("empty handler", floor))
		}
	}
}

// ---- Overheads beside the peers ----

type rival struct {
	what       string
	ours       *worker
	peer       string
	theirs     *worker
	level      int
	theirLevel int
}

func (b *cpuBench) overheads() {
	b.section("overhead", "Overhead at 100 and 1000 Hz beside the peers, on the same work; the peers' timers may give "+
		"fewer samples than asked for")
	for _, hz := range []int{100, 1000} {
		c := filepath.Join(*build, "bench/bench_cpu_worker")
		b.overhead(hz, "C, 30 frames", 30, b.c, "gperftools",
			newWorker("gperftools", "sh", "-c", `LD_PRELOAD=libprofiler.so.0 exec "$0" 2>/dev/null`, c).
				with(fmt.Sprintf("CPUPROFILE_FREQUENCY=%d", hz)))
		b.overhead(hz, "luajit, 20 levels", 20, b.lua["luajit"], "luajit -jp",
			newLuaWorker("luajit", "cpu_worker.lua", "jp"))
		b.overhead(hz, "lua5.4, 20 levels", 20, b.lua["lua5.4"], "count hook",
			newLuaWorker("lua5.4", "cpu_worker.lua", "hook"))
	}
}

// overhead gives both the same time, which is longer where samples are rare. jit.p may fall over a sample that comes
// while it starts, which ends its process: it then begins anew, with both from the first round on.
func (b *cpuBench) overhead(hz int, what string, level int, ours *worker, peer string, theirs *worker) {
	what = fmt.Sprintf("%s, %d Hz", what, hz)
	times := 4 * rounds(1000/hz, 1)
	var q, r *question
	var err error
	for try := 0; try < 5; try++ {
		q = ask(ours, "cost %d %d %d", level, hz, times*unitsOf(ours, fmt.Sprintf("cost %d %%d %%d", level)))
		r = ask(theirs, "cost %d %d %d", level, hz, times*unitsOf(theirs, fmt.Sprintf("cost %d %%d %%d", level)))
		err = takeTurns(rounds(b.Rounds*4/times+4, b.Rounds), q, r)
		theirs.stop()
		if err == nil {
			break
		}
	}
	if err != nil {
		b.add(row{What: what, Error: err.Error()})
		return
	}
	us, percent, samples := costOf(q)
	theirUs, theirPercent, theirSamples := costOf(r)
	b.add(below(what, percent.median(), "%", 0).beside(peer, theirPercent))
	b.add(below(what+": samples a round", samples.median(), "", 0).beside(peer, theirSamples))
	b.add(below(what+": a sample", us.median(), "us", 0).beside(peer, theirUs))
}

// ---- Not sampling ----

var collected = regexp.MustCompile(`Collected : (\d+)`)

// instructions counts those of a command, in millions of none: as callgrind does.
func instructions(command ...string) (float64, error) {
	arguments := append([]string{filepath.Join(*root, "scripts/env"), "valgrind", "--tool=callgrind",
		"--callgrind-out-file=/dev/null"}, command...)
	var errors bytes.Buffer
	run := exec.Command(arguments[0], arguments[1:]...)
	run.Stderr = &errors
	err := run.Run()
	match := collected.FindSubmatch(errors.Bytes())
	if err != nil || match == nil {
		return 0, fmt.Errorf("%v: %w\n%s", command, err, errors.String())
	}
	return strconv.ParseFloat(string(match[1]), 64)
}

// growth is by how many instructions a longer run differs from a shorter one.
func growth(short, long int, command ...string) (float64, error) {
	var counts [2]float64
	for i, rounds := range []int{short, long} {
		with := append([]string{}, command...)
		for j, word := range with {
			if word == "ROUNDS" {
				with[j] = strconv.Itoa(rounds)
			}
		}
		var err error
		if counts[i], err = instructions(with...); err != nil {
			return 0, err
		}
	}
	return counts[1] - counts[0], nil
}

func (b *cpuBench) idle() {
	b.section("not sampling", "Required or linked and not sampling: instructions of the same work, by callgrind")
	plain, err := growth(1000, 5000, filepath.Join(*build, "bench/bench_zero_plain"), "ROUNDS")
	if err == nil {
		b.notSampling("C, linked, a recording stopped", plain, 1000, 5000, filepath.Join(*build, "bench/bench_zero_cprof"),
			"ROUNDS")
	} else {
		b.add(row{What: "C", Error: err.Error()})
	}
	script := filepath.Join(*root, "tests/bench/zero.lua")
	for _, name := range runtimes {
		command := []string{name}
		if name == "luajit" {
			command = []string{name, "-joff"} // what is compiled, and when, is not the same in each run
		}
		b.idleLua(append(command, script, "ROUNDS"))
	}
}

func (b *cpuBench) idleLua(command []string) {
	const short, long = 500, 2000
	name := strings.Join(command[:len(command)-2], " ")
	plain, err := growth(short, long, command...)
	if err != nil {
		b.add(row{What: name, Error: err.Error()})
		return
	}
	b.notSampling(name+", required", plain, short, long, append(command, "required")...)
	if !*quick {
		b.notSampling(name+", a recording stopped", plain, short, long, append(command, "stopped")...)
	}
}

func (b *cpuBench) notSampling(what string, plain float64, short, long int, command ...string) {
	ours, err := growth(short, long, command...)
	if err != nil {
		b.add(row{What: what, Error: err.Error()})
		return
	}
	b.add(within(what, ours, "without", plain, "", 0.1))
}

// ---- Hooks of the host ----

// hooks runs enough instructions for a count to come up at least ten times, and for a few hundred samples.
func (b *cpuBench) hooks() {
	b.section("host's hooks", "How often a host's count hook fires while sampled at 1000 Hz, against not sampled")
	largest := rounds(100_000_000, 1_000_000)
	for _, name := range runtimes {
		who := b.luaPlain(name)
		for count := 1000; count <= largest; count *= 10 {
			run := count*10 + count/2 // a few instructions more or less do not move a count across its end
			if run < 20_000_000 {
				run = 20_000_000
			}
			what := fmt.Sprintf("%s, count %.0e", who.name, float64(count))
			without, err := who.ask("hooks %d %d 0", count, run)
			var with []float64
			if err == nil {
				with, err = who.ask("hooks %d %d 1000", count, run)
			}
			if err != nil {
				b.add(row{What: what, Error: err.Error()})
				break
			}
			b.add(within(what, with[0], "not sampled", without[0], "", 10))
		}
	}
}
