// SPDX-License-Identifier: BSD-3-Clause

// Package report stores the figures of a run, and makes tables, charts and a page from them.
package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Record is one measurement. Figures that a scenario does not have are 0.
type Record struct {
	Scenario, Contestant string
	Size, Conns, Depth   int
	Loops, Round         int

	Messages float64 // in the window; a part of a large message counts as a fraction
	Seconds  float64
	CPU      float64 // ns of the server's CPU time for a message
	User     float64 // the part of it in user space
	System   float64 // and in the kernel
	Rate     float64 // messages a second
	P50      float64 // ns
	P99      float64
	P999     float64
	RSS      float64 // bytes resident at the end of the window
	PerConn  float64 // resident bytes that one connection adds
	Syscalls float64 // system calls for a message

	Instructions float64 // in user space, for a message
	Detail       string
}

var columns = []string{"scenario", "size", "conns", "depth", "loops", "round", "contestant",
	"messages", "seconds", "cpu_ns_per_message", "user_ns_per_message", "system_ns_per_message", "messages_per_second", "p50_ns", "p99_ns", "p999_ns",
	"rss_bytes", "bytes_per_connection", "syscalls_per_message", "instructions_per_message", "detail"}

func (r *Record) figures() []*float64 {
	return []*float64{&r.Messages, &r.Seconds, &r.CPU, &r.User, &r.System,
		&r.Rate, &r.P50, &r.P99, &r.P999, &r.RSS, &r.PerConn, &r.Syscalls, &r.Instructions}
}

func (r *Record) counts() []*int {
	return []*int{&r.Size, &r.Conns, &r.Depth, &r.Loops, &r.Round}
}

func (r *Record) row() []string {
	row := []string{r.Scenario}
	for _, n := range r.counts() {
		row = append(row, strconv.Itoa(*n))
	}
	row = append(row, r.Contestant)
	for _, f := range r.figures() {
		s := ""
		if *f != 0 {
			s = strconv.FormatFloat(*f, 'g', 7, 64)
		}
		row = append(row, s)
	}
	return append(row, r.Detail)
}

func parse(row []string) (r Record, err error) {
	r.Scenario, r.Contestant, r.Detail = row[0], row[6], row[len(row)-1]
	for i, n := range r.counts() {
		var e error
		*n, e = strconv.Atoi(row[1+i])
		err = errors.Join(err, e)
	}
	for i, f := range r.figures() {
		if s := row[7+i]; s != "" {
			var e error
			*f, e = strconv.ParseFloat(s, 64)
			err = errors.Join(err, e)
		}
	}
	return r, err
}

// Fact says something about the machine or the run, for example "kernel", "6.1".
type Fact struct{ Name, Value string }

// Writer writes the raw data: facts as comments, then a line for each record. It writes each
// line at once, so a run that is interrupted leaves its records.
type Writer struct {
	file *os.File
	csv  *csv.Writer
}

// Create creates the file and writes the facts.
func Create(path string, facts []Fact) (*Writer, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	for _, f := range facts {
		if _, err := fmt.Fprintf(file, "# %s: %s\n", f.Name, f.Value); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	w := &Writer{file, csv.NewWriter(file)}
	return w, w.line(columns)
}

func (w *Writer) line(row []string) error {
	if err := w.csv.Write(row); err != nil {
		return err
	}
	w.csv.Flush()
	return w.csv.Error()
}

// Add writes one record.
func (w *Writer) Add(r Record) error { return w.line(r.row()) }

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }

// Read reads what a Writer wrote.
func Read(in io.Reader) (*Data, error) {
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	d := &Data{}
	body := string(text)
	for strings.HasPrefix(body, "# ") {
		line, rest, _ := strings.Cut(body[2:], "\n")
		name, value, _ := strings.Cut(line, ": ")
		d.Facts = append(d.Facts, Fact{name, value})
		body = rest
	}
	rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || strings.Join(rows[0], ",") != strings.Join(columns, ",") {
		return nil, errors.New("the columns are not those of this program: run the benchmarks again")
	}
	for i, row := range rows[1:] {
		r, err := parse(row)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i+1, err)
		}
		d.Records = append(d.Records, r)
	}
	return d, nil
}

// ReadFile reads the raw data of a run.
func ReadFile(path string) (*Data, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	d, err := Read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}
