// SPDX-License-Identifier: BSD-3-Clause

// Nbio is a server over nbio. Its pollers read and call OnData. Write copies only the bytes that
// the socket does not take.
package main

import (
	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"

	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
)

func main() {
	args := server.Parse()
	logging.SetLevel(logging.LevelNone)
	engine := nbio.NewEngine(nbio.Config{
		Network:        "tcp",
		Addrs:          []string{args.Addr},
		NPoller:        args.Loops,
		ReadBufferSize: server.ReadSize,
	})
	if args.Sink {
		engine.OnOpen(func(c *nbio.Conn) { c.SetSession(new(server.Counter)) })
		engine.OnData(func(c *nbio.Conn, data []byte) {
			if answer := c.Session().(*server.Counter).Add(len(data)); len(answer) > 0 {
				_, _ = c.Write(answer)
			}
		})
	} else {
		// When Write fails, it also closes the connection.
		engine.OnData(func(c *nbio.Conn, data []byte) { _, _ = c.Write(data) })
	}
	server.Check(engine.Start())
	server.Ready()
	select {}
}
