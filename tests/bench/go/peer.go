// SPDX-License-Identifier: MIT

package main

// The peer: runtime/pprof asked the same questions as tests/bench/worker.c, in a process of its own.

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

const objectCount = 1024

type blob struct{ name [64]byte }

var blobs *pprof.Profile

// dig calls bottom with levels of its own frames on the stack.
//
//go:noinline
func dig(levels int, bottom func()) {
	if levels > 1 {
		dig(levels-1, bottom)
		return
	}
	bottom()
}

// framesAtOneLevel is how many frames a stack has that is dug 1 level deep in a goroutine like the one that measures.
func framesAtOneLevel() int {
	depth := 0
	inGoroutine(func() {
		dig(1, func() { depth = runtime.Callers(1, make([]uintptr, 64)) })
	})
	return depth
}

func inGoroutine(run func()) {
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		run()
	}()
	done.Wait()
}

func makeObjects(count int) []*blob {
	objects := make([]*blob, count)
	for i := range objects {
		objects[i] = new(blob)
	}
	return objects
}

// addRemove times count calls of Add and Remove in each of several goroutines: nanoseconds for a pair.
func addRemove(depth, count, goroutines int) float64 {
	base := framesAtOneLevel()
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	elapsed := make([]time.Duration, goroutines)
	for g := 0; g < goroutines; g++ {
		ready.Add(1)
		done.Add(1)
		go func(g int) {
			defer done.Done()
			objects := makeObjects(objectCount)
			dig(depth-base+1, func() {
				var began time.Time
				for i := -objectCount; i < count; i++ { // below 0 to warm up
					if i == 0 {
						ready.Done()
						<-start
						began = time.Now()
					}
					object := objects[(i+objectCount)%objectCount]
					blobs.Add(object, 1)
					blobs.Remove(object)
				}
				elapsed[g] = time.Since(began)
			})
		}(g)
	}
	ready.Wait()
	close(start)
	done.Wait()
	sum := 0.0
	for _, e := range elapsed {
		sum += float64(e.Nanoseconds()) / float64(count)
	}
	return sum / float64(goroutines)
}

// takeWay goes one of 32 ways down to an Add and a Remove: at each of the levels the call is one of two.
//
//go:noinline
func takeWay(way uint32, levels int, object *blob) {
	if levels == 0 {
		blobs.Add(object, 1)
		blobs.Remove(object)
	} else if way&1 != 0 {
		takeWay(way>>1, levels-1, object)
	} else {
		takeWay(way>>1, levels-1, object)
		runtime.KeepAlive(object)
	}
}

// changing is addRemove where the last frames differ from call to call.
func changing(depth, count int) float64 {
	const levels = 5
	base := framesAtOneLevel()
	objects := makeObjects(objectCount)
	var elapsed time.Duration
	inGoroutine(func() {
		dig(depth-base-levels, func() {
			var began time.Time
			for i := -objectCount; i < count; i++ {
				if i == 0 {
					began = time.Now()
				}
				takeWay(uint32(i)*2654435761>>16, levels, objects[(i+objectCount)%objectCount])
			}
			elapsed = time.Since(began)
		})
	})
	return float64(elapsed.Nanoseconds()) / float64(count)
}

// add times Add alone, as the Lua worker does: a thousand keys at a time, removed off the clock.
func add(depth, rounds int) float64 {
	base := framesAtOneLevel()
	objects := makeObjects(1000)
	var elapsed time.Duration
	inGoroutine(func() {
		dig(depth-base+1, func() {
			for r := 0; r < rounds; r++ {
				began := time.Now()
				for _, object := range objects {
					blobs.Add(object, 1)
				}
				elapsed += time.Since(began)
				for _, object := range objects {
					blobs.Remove(object)
				}
			}
		})
	})
	return float64(elapsed.Nanoseconds()) / float64(rounds*len(objects))
}

var kept []*blob // the keys of live entries

func heapBytes() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// live makes count entries live on so many stacks: bytes of heap an entry.
func live(count, stacks int) float64 {
	kept = makeObjects(count)
	before := heapBytes()
	for s := 0; s < stacks; s++ {
		dig(3+s, func() {
			for i := s; i < count; i += stacks {
				blobs.Add(kept[i], 1)
			}
		})
	}
	return float64(heapBytes()-before) / float64(count)
}

// write answers nanoseconds, bytes allocated on the way, bytes written.
func write() (int64, uint64, int64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var counter countingWriter
	began := time.Now()
	if err := blobs.WriteTo(&counter, 0); err != nil {
		fatal(err)
	}
	elapsed := time.Since(began)
	runtime.ReadMemStats(&after)
	return elapsed.Nanoseconds(), after.TotalAlloc - before.TotalAlloc, int64(counter)
}

type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}

var _ io.Writer = (*countingWriter)(nil)

func runPeer() {
	blobs = pprof.NewProfile("bench.blobs")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var a, b, c int
		line := lines.Text()
		switch {
		case matches(line, "addremove %d %d %d", &a, &b, &c):
			fmt.Println(addRemove(a, b, c))
		case matches(line, "changing %d %d", &a, &b):
			fmt.Println(changing(a, b))
		case matches(line, "add %d %d", &a, &b):
			fmt.Println(add(a, b))
		case matches(line, "live %d %d", &a, &b):
			fmt.Println(live(a, b))
		case line == "write":
			fmt.Println(write())
		default:
			fmt.Println("error unknown question:", line)
		}
	}
}

func matches(line, format string, numbers ...any) bool {
	n, err := fmt.Sscanf(line, format, numbers...)
	return err == nil && n == len(numbers)
}
