// SPDX-License-Identifier: BSD-3-Clause

package report

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// sample returns records of three rounds. In the second, every contestant is three times as slow.
func sample() []Record {
	var records []Record
	for round, slow := range []float64{1, 3, 1.1} {
		for name, factor := range map[string]float64{"c-book": 1, "c-book-nodelay": 1, "libevent-move": 0.5} {
			records = append(records, Record{Scenario: "echo", Contestant: name, Size: 1 << 10, Conns: 100, Depth: 1, Loops: 1,
				Round: round + 1, Messages: 1000, Seconds: 0.5, CPU: 8000 * slow * factor, User: 2000, System: 6000, Rate: 2000, P50: 1e6, P99: 2e6})
		}
	}
	return records
}

func TestRatioIsOfTheSameRound(t *testing.T) {
	d := &Data{Records: sample()}
	c := Cell{1 << 10, 100, 1, 1}
	if got := d.ratio("echo", c, "libevent-move", "c-book", metrics["cpu"]); got != (Spread{0.5, 0.5, 0.5, 3}) {
		t.Errorf("ratio %+v", got)
	}
	if got := d.absolute("echo", c, "c-book", metrics["cpu"]); got != (Spread{8800, 8400, 16400, 3}) {
		t.Errorf("absolute %+v", got)
	}
}

func TestSpreadOfEvenNumber(t *testing.T) {
	if got := spread([]float64{4, 1, 3, 2}); got != (Spread{2.5, 1.75, 3.25, 4}) {
		t.Errorf("%+v", got)
	}
}

func TestSteadiness(t *testing.T) {
	records := sample()
	for i := range records {
		records[i].CPU = 1000 + 10*float64(records[i].Round)
	}
	if got := (&Data{Records: records}).Steadiness(); got != "3 of 3" {
		t.Error(got)
	}
}

func TestRawDataSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw.csv")
	facts := []Fact{{"CPU", "a: b, c"}, {"command", "go run ."}}
	w, err := Create(path, facts)
	if err != nil {
		t.Fatal(err)
	}
	records := sample()
	records[0].Detail = `a, "b"`
	for _, r := range records {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d.Facts, facts) || len(d.Records) != len(records) || d.Records[0] != records[0] {
		t.Errorf("%+v", d)
	}
}

func TestForeignDataIsRefused(t *testing.T) {
	for _, text := range []string{"", "a,b\n1,2\n", strings.Join(columns, ",") + "\n" + strings.Repeat("x,", len(columns)-1) + "x\n"} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestPage(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "benchmarks-memory.svg")
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	counts := &Data{Records: []Record{{Scenario: "instructions", Contestant: "nbio", Size: 64, Conns: 1000, Depth: 1, Loops: 1, Instructions: 1217}}}
	if err := (&Data{Facts: []Fact{{"cores", "2"}}, Records: sample()}).WriteTo(dir, counts); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| cores | 2 |", "8.80 µs (8.40 µs–16.4 µs)", "0.50 (0.50–0.50)", "(benchmarks-cpu.svg)", "| nbio | 1,217 |", "0 of 3", "*Not measured in this run.*"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q on the page", want)
		}
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Error("a chart of another run is left")
	}
	svg, err := os.Open(filepath.Join(dir, "benchmarks-cpu.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer svg.Close()
	for dec := xml.NewDecoder(svg); ; {
		if _, err := dec.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
