// SPDX-License-Identifier: MIT

package main

// A worker: a process that is asked one line and answers one line of numbers, so that the driver can take turns.

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

type worker struct {
	name    string
	command []string
	environ []string // besides the driver's
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func newWorker(name string, command ...string) *worker {
	return &worker{name: name, command: command}
}

func (w *worker) with(variable string) *worker {
	w.environ = append(w.environ, variable)
	return w
}

func (w *worker) start() error {
	w.process = exec.Command(w.command[0], w.command[1:]...)
	w.process.Stderr = os.Stderr
	w.process.Env = append(os.Environ(), w.environ...)
	var err error
	if w.in, err = w.process.StdinPipe(); err != nil {
		return err
	}
	out, err := w.process.StdoutPipe()
	if err != nil {
		return err
	}
	w.out = bufio.NewReader(out)
	return w.process.Start()
}

// ask starts the process where it does not run, and answers what it says to the question.
func (w *worker) ask(format string, args ...any) ([]float64, error) {
	if w.process == nil {
		if err := w.start(); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	question := fmt.Sprintf(format, args...)
	if _, err := fmt.Fprintln(w.in, question); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", w.name, question, err)
	}
	line, err := w.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s: %s: it ended (%w)", w.name, question, err)
	}
	var numbers []float64
	for _, field := range strings.Fields(line) {
		number, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %s", w.name, question, strings.TrimSpace(line))
		}
		numbers = append(numbers, number)
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s: %s: no answer", w.name, question)
	}
	return numbers, nil
}

// stop ends the process; the next question starts a fresh one.
func (w *worker) stop() {
	if w.process == nil {
		return
	}
	w.in.Close()
	w.process.Wait()
	w.process = nil
}
