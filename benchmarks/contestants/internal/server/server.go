// SPDX-License-Identifier: BSD-3-Clause

// Package server has what the Go servers share: arguments, and the counter of a sink.
package server

import (
	"flag"
	"fmt"
	"net"
	"os"
)

// ReadSize is the size of the buffer for one read, in all contestants that let it be set.
const ReadSize = 64 << 10

// ackEvery is how many bytes a sink answers with one byte, so that its client knows how many
// have arrived.
const ackEvery = 256 << 10

// zeros has the bytes of an answer. It is large enough for all bytes that may be buffered at
// once.
var zeros [4096]byte

// Args are the arguments of every server.
type Args struct {
	Addr  string
	Loops int
	Sink  bool
	TLS   string // a file with a certificate and its key, or ""
}

// Parse reads the command line.
func Parse() Args {
	port := flag.Int("port", 0, "`port` to listen on, of 127.0.0.1")
	loops := flag.Int("loops", 1, "event loops, each for a core")
	sink := flag.Bool("sink", false, "count what is read instead of sending it back")
	tls := flag.String("tls", "", "TLS with the certificate and the key in `file`")
	flag.Parse()
	if flag.NArg() > 0 || *port < 1 || *loops < 1 {
		flag.Usage()
		os.Exit(2)
	}
	return Args{Addr: fmt.Sprintf("127.0.0.1:%d", *port), Loops: *loops, Sink: *sink, TLS: *tls}
}

// Ready tells the runner that the server listens.
func Ready() { fmt.Println("ready") }

// Check prints an error and ends the server.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Counter counts the bytes that one connection of a sink has got.
type Counter uint64

// Add counts n more bytes and returns the answer, which is often empty.
func (c *Counter) Add(n int) []byte {
	before := *c / ackEvery
	*c += Counter(n)
	return zeros[:*c/ackEvery-before]
}

// Serve serves each connection on a goroutine of its own.
func Serve(l net.Listener, sink bool) {
	for {
		conn, err := l.Accept()
		Check(err)
		go serve(conn, sink)
	}
}

func serve(conn net.Conn, sink bool) {
	defer conn.Close()
	var total Counter
	buf := make([]byte, ReadSize)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		answer := buf[:n]
		if sink {
			answer = total.Add(n)
		}
		if len(answer) > 0 {
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}
