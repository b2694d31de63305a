// Package server is what the Go servers share: arguments, and the sink's count.
package server

import (
	"flag"
	"fmt"
	"net"
	"os"
)

// ReadSize is the buffer for one read, for all contestants that have such a number.
const ReadSize = 64 << 10

// ackEvery says how many bytes a sink answers one byte for, so that its client knows what
// arrived.
const ackEvery = 256 << 10

// zeros are what is answered with: for all that may be buffered at once.
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

// Ready tells who started the server that it listens.
func Ready() { fmt.Println("ready") }

// Check ends the server if there is an error.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Counter counts what one connection of a sink got.
type Counter uint64

// Add counts n more bytes and returns what to answer, often nothing.
func (c *Counter) Add(n int) []byte {
	before := *c / ackEvery
	*c += Counter(n)
	return zeros[:*c/ackEvery-before]
}

// Serve has a goroutine for each connection, which reads and writes.
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
