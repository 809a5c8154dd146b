// SPDX-License-Identifier: MIT

package main

// `scripts/bench cpu`: CPU profiles beside the truth, and what they cost beside the peers.

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

type cpuBench struct {
	*table
	dir       string // for profiles
	functions map[string]string
	c         *worker
	lua       map[string]*worker
	jitOff    *worker
}

func newCPUBench(t *table) *cpuBench {
	dir, err := os.MkdirTemp("", "cprof-bench")
	if err != nil {
		fatal(err)
	}
	script := filepath.Join(*root, "tests/bench/cpu_worker.lua")
	b := &cpuBench{table: t, dir: dir, lua: map[string]*worker{}, functions: functionsOf(script)}
	b.c = newWorker("C", filepath.Join(*build, "bench/bench_cpu_worker"))
	for _, name := range runtimes {
		b.lua[name] = newLuaWorker(name, "cpu_worker.lua")
	}
	b.jitOff = newLuaWorker("luajit", "cpu_worker.lua", "interpreter")
	return b
}

// record asks a question that ends with the name of a file, which gets a profile.
func (b *cpuBench) record(who *worker, format string, args ...any) ([]float64, profile, error) {
	file := filepath.Join(b.dir, "profile.pb.gz")
	answer, err := who.ask("%s %s", fmt.Sprintf(format, args...), file)
	if err != nil {
		who.stop()
		return nil, nil, err
	}
	p, err := readProfile(file, b.functions)
	return answer, p, err
}

// ---- Totals ----

func (b *cpuBench) totals() {
	b.section("total", "Total CPU time of the profile at 100 Hz, against getrusage")
	ms := rounds(2000, 500)
	for _, threads := range []int{1, 2, 4} {
		b.total(b.c, fmt.Sprintf("C, threads: %d", threads), 2, "total %d %d 100", threads, ms)
		for _, name := range runtimes {
			b.total(b.lua[name], fmt.Sprintf("%s, threads: %d", name, threads), 2, "total %d %d 100", threads, ms)
		}
	}
	b.section("total, threads that come and go", "The same of threads that live for milliseconds, two at a time")
	for _, life := range []int{2, 5, 20} {
		b.total(b.c, fmt.Sprintf("C, threads that live %d ms", life), 5, "lives %d %d 100", life, ms)
	}
}

// total also tells how much of it is in no stack, where that is more than a little.
func (b *cpuBench) total(who *worker, what string, percent float64, format string, args ...any) {
	answer, p, err := b.record(who, format, args...)
	if err != nil {
		b.add(row{What: what, Error: err.Error()})
		return
	}
	_, ns := p.total()
	b.add(within(what, float64(ns), "getrusage", answer[0], "ns", percent))
	if share := p.share("[not sampled]"); share > 5 {
		b.add(below(what+": of it in no stack", share, "%", 0))
	}
}

// ---- Splits ----

// What the parts of a split are called, in the order of the worker's answer.
var (
	fourInC = []path{{"burn_parts", "alpha"}, {"burn_parts", "beta"}, {"burn_parts", "gamma"}, {"burn_parts", "delta"}}
	partsOf = map[string][]path{
		"lua":       {{"burn_parts", "alpha"}, {"burn_parts", "beta"}, {"burn_parts", "gamma"}},
		"c":         {{"burn_parts", "alpha"}, {"call_beta", "burn_beta", "c_beta"}, {"call_gamma", "burn_gamma", "c_gamma"}},
		"coroutine": {{"burn_parts", "alpha"}, {"burn_parts", "beta"}, {"burn_parts", "gamma"}},
		"host":      {{"resume_alpha", "alpha"}, {"catch_beta", "call_deep", "throw_beta", "beta"}, {"burn_parts", "gamma"}},
		"plain":     {{"call_beta", "burn_beta", "c_beta"}, {"burn_parts", "alpha"}},
		"tail":      {{"tail_beta", "burn_beta", "c_beta"}, {"burn_parts", "alpha"}},
		"collect":   {{"timed_collect", "[gc]"}, {"burn_parts", "alpha"}},
		"step":      {{"timed_steps", "[gc]"}, {"burn_parts", "alpha"}},
	}
	partsInJIT = map[string][]path{
		"tail": {{"burn_parts", "burn_beta", "c_beta"}, {"burn_parts", "alpha"}}, // a tail call leaves no frame
	}
)

func partsOn(name, kind string) []path {
	if parts := partsInJIT[kind]; parts != nil && name == "luajit" {
		return parts
	}
	return partsOf[kind]
}

const splitBar = 3 // points

func (b *cpuBench) splits() {
	b.section("split", "Known splits: the part that is off by most, in percentage points of the whole")
	ms := rounds(2550, 650)
	b.split(b.c, "C", fourInC, "split %d 1000", ms)
	for _, name := range runtimes {
		b.split(b.luaPlain(name), name, partsOf["lua"], "split lua %d 1000", ms)
	}
	b.split(b.lua["luajit"], "luajit, compiled", partsOf["lua"], "split lua %d 1000", ms)
	titles := map[string]string{"c": ", C called from Lua", "coroutine": ", inside coroutines",
		"host": ", resumed by C, errors through C"}
	for _, kind := range []string{"c", "coroutine", "host"} {
		for _, name := range runtimes {
			b.split(b.lua[name], name+titles[kind], partsOn(name, kind), "split %s %d 1000", kind, ms)
		}
	}
	// 2,500 samples at the default rate, whose period the loops are near to.
	for _, period := range []int{16, 20} {
		b.split(b.c, fmt.Sprintf("C, equal phases in %d ms", period), fourInC[:3], "phases %d %d 100", period, 10*ms)
	}
}

// luaPlain interprets also where there is a compiler.
func (b *cpuBench) luaPlain(name string) *worker {
	if name == "luajit" {
		return b.jitOff
	}
	return b.lua[name]
}

func (b *cpuBench) leaves() {
	b.section("leaf", "Half of the time in a C function under a Lua caller; a known part of it in the collector")
	ms := rounds(2550, 650)
	titles := map[string]string{"plain": ", C leaf", "tail": ", C leaf of return cfn()",
		"collect": ", [gc] of collections", "step": ", [gc] of steps"}
	for _, kind := range []string{"plain", "tail", "collect", "step"} {
		for _, name := range runtimes {
			b.split(b.lua[name], name+titles[kind], partsOn(name, kind), "split %s %d 1000", kind, ms)
		}
	}
}

func (b *cpuBench) split(who *worker, what string, parts []path, format string, args ...any) {
	answer, p, err := b.record(who, format, args...)
	if err != nil {
		b.add(row{What: what, Error: err.Error()})
		return
	}
	count, _ := p.total()
	worst, details := 0.0, ""
	for i, names := range parts {
		true_, seen := 100*answer[i+1]/answer[0], p.share(names...)
		worst = math.Max(worst, math.Abs(seen-true_))
		details += fmt.Sprintf("    %-36s %5.1f%%, truth %5.1f%%\n", strings.Join(names, " > "), seen, true_)
	}
	b.add(below(fmt.Sprintf("%s (%d samples)", what, count), worst, "points", splitBar))
	if worst > splitBar {
		fmt.Print(details)
		for _, name := range []string{"[lua: no safepoint]", "[not sampled]", "[cprof]", "[signals blocked]"} {
			fmt.Printf("    %-36s %5.1f%%\n", name, p.share(name))
		}
	}
}

func runCPU(t *table) {
	b := newCPUBench(t)
	defer os.RemoveAll(b.dir)
	b.Rounds = rounds(40, 8)
	b.begin(fmt.Sprintf("totals and splits of one run each; of costs the medians of %d rounds in which all took turns",
		b.Rounds))
	for _, part := range []struct {
		name string
		run  func()
	}{{"totals", b.totals}, {"splits", b.splits}, {"leaves", b.leaves}, {"costs", b.costs}, {"overheads", b.overheads},
		{"idle", b.idle}, {"hooks", b.hooks}} {
		if *only == "" || strings.Contains(*only, part.name) {
			part.run()
		}
	}
}
