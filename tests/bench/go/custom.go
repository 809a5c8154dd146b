// SPDX-License-Identifier: MIT

package main

// `scripts/bench custom`: custom profiles beside Go's.

import (
	"fmt"
	"os"
	"path/filepath"
)

type bench struct {
	*table
	peer *worker
	fp   *worker
	nofp *worker
	lua  map[string]*worker
}

func newBench(t *table) *bench {
	self, err := os.Executable()
	if err != nil {
		fatal(err)
	}
	t.Rounds = rounds(100, 20)
	b := &bench{table: t, lua: map[string]*worker{}}
	b.peer = newWorker("go", self, "peer")
	b.fp = newWorker("C", filepath.Join(*build, "bench/bench_worker_fp"))
	b.nofp = newWorker("C without frame pointers", filepath.Join(*build, "bench/bench_worker_nofp"))
	for _, name := range runtimes {
		b.lua[name] = newLuaWorker(name, "worker.lua")
	}
	return b
}

// How much one question measures: a millisecond or two, less than a time slice, so that what else runs on the machine
// spoils some rounds and not a part of every one. There are the more rounds.
const (
	oursCount = 8000
	peerCount = 1200
	luaRounds = 2
)

func (b *bench) addRemove() {
	b.section("C add+remove", "C: add and remove, against Go's Profile.Add and Remove at the same depth")
	for _, depth := range []int{6, 20, 34} {
		b.compareWithGo(fmt.Sprintf("%d frames", depth), fmt.Sprintf("addremove %d %%d 1", depth), 8)
	}
	// A program seldom stands still: here consecutive stacks share their outer frames only. No bar asks for it.
	for _, depth := range []int{20, 34} {
		b.compareWithGo(fmt.Sprintf("%d frames, the last 5 differ", depth), fmt.Sprintf("changing %d %%d", depth), 0)
	}
}

// compareWithGo asks all three the same; format has a place for the count.
func (b *bench) compareWithGo(what, format string, bar float64) {
	fp := ask(b.fp, format, oursCount)
	nofp := ask(b.nofp, format, oursCount)
	peer := ask(b.peer, format, peerCount)
	if err := takeTurns(b.Rounds, fp, peer, nofp); err != nil {
		b.add(row{What: what, Error: err.Error()})
		return
	}
	b.add(faster(what+", frame pointers", fp.figure, "Go", peer.figure, bar))
	b.add(faster(what+", no frame pointers", nofp.figure, "Go", peer.figure, bar))
}

func (b *bench) twoThreads() {
	b.section("C add+remove, 2 threads", "The same at 20 frames from 2 threads at once: time on each thread")
	one := []*question{ask(b.fp, "addremove 20 %d 1", oursCount), ask(b.nofp, "addremove 20 %d 1", oursCount),
		ask(b.peer, "addremove 20 %d 1", peerCount)}
	two := []*question{ask(b.fp, "addremove 20 %d 2", oursCount), ask(b.nofp, "addremove 20 %d 2", oursCount),
		ask(b.peer, "addremove 20 %d 2", peerCount)}
	if err := takeTurns(b.Rounds, one[0], two[0], one[1], two[1], one[2], two[2]); err != nil {
		b.add(row{What: "2 threads", Error: err.Error()})
		return
	}
	b.add(atMost("frame pointers", two[0].figure, "1 thread", one[0].figure, 1.3))
	b.add(atMost("no frame pointers", two[1].figure, "1 thread", one[1].figure, 1.3))
	b.add(atMost("(Go, 2 goroutines)", two[2].figure, "Go, 1 goroutine", one[2].figure, 0))
}

func (b *bench) luaAdd() {
	b.section("Lua add, 20 levels", "Lua: add at 20 Lua levels; removing is off the clock on both sides")
	for _, name := range runtimes {
		add := ask(b.lua[name], "add 20 %d", luaRounds)
		walk := ask(b.lua[name], "walk 20 %d", luaRounds)
		peer := ask(b.peer, "add 20 %d", luaRounds)
		if err := takeTurns(b.Rounds, add, walk, peer); err != nil {
			b.add(row{What: name, Error: err.Error()})
			continue
		}
		bar := 1.0
		if name == "luajit" {
			bar = 1.3
		}
		b.add(atMost(name, add.figure, "getstack + getinfo", walk.figure, 1.5))
		b.add(atMost(name, add.figure, "Go's Add", peer.figure, bar))
	}
}

// memory asks processes that have done nothing else.
func (b *bench) memory() {
	b.section("memory an entry", "Memory of a live entry, 40 stacks shared; what the keys themselves take is not in it")
	counts := []int{100000, 1000000}
	if *quick {
		counts = counts[:1]
	}
	for _, count := range counts {
		b.memoryOf("C", b.fp, count, 48)
		for _, name := range runtimes {
			b.memoryOf(name, b.lua[name], count, 150)
		}
		b.peer.stop()
		if answer, err := b.peer.ask("live %d 40", count); err == nil {
			b.add(below(fmt.Sprintf("(Go, %d entries, heap)", count), answer[0], "B", 0))
		}
		b.peer.stop()
	}
}

func (b *bench) memoryOf(name string, who *worker, count int, bar float64) {
	who.stop()
	defer who.stop()
	what := fmt.Sprintf("%s, %d entries", name, count)
	answer, err := who.ask("live %d 40", count)
	if err != nil {
		b.add(row{What: what, Error: err.Error()})
		return
	}
	b.add(below(what+", allocated", answer[0], "B", bar))
	b.add(below(what+", resident", answer[1], "B", bar))
}

func (b *bench) write() {
	b.section("write 100,000 entries", "Writing 100,000 live entries on 40 stacks, against Go's WriteTo")
	b.fp.stop()
	b.peer.stop()
	ours, theirs := ask(b.fp, "write"), ask(b.peer, "write")
	cold, err := b.fp.ask("live 100000 40")
	if err == nil {
		cold, err = b.fp.ask("write")
	}
	if err == nil {
		_, err = b.peer.ask("live 100000 40")
	}
	if err == nil {
		err = takeTurns(b.Rounds/7+1, ours, theirs)
	}
	if err != nil {
		b.add(row{What: "write", Error: err.Error()})
		return
	}
	b.add(faster("symbols warm", ours.figure, "Go", theirs.figure, 50))
	warm, err := b.fp.ask("write")
	if err == nil {
		b.add(below("symbols warm: extra memory at its peak", warm[1], "B", 2<<20))
		b.add(below("symbols warm: bytes written", warm[2], "B", 0))
	}
	if peer, err := b.peer.ask("write"); err == nil {
		b.add(below("(Go: bytes allocated on the way)", peer[1], "B", 0))
		b.add(below("(Go: bytes written)", peer[2], "B", 0))
	}
	b.add(below("symbols cold (the first write of a process)", cold[0], "ns", 0))
	b.fp.stop()
	b.peer.stop()
}

func runCustom(t *table) {
	b := newBench(t)
	b.begin(fmt.Sprintf("medians of %d rounds in which ours and the peer took turns, and the median of the rounds' "+
		"ratios", b.Rounds))
	b.addRemove()
	b.twoThreads()
	b.luaAdd()
	b.memory()
	b.write()
}
