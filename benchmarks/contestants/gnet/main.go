// SPDX-License-Identifier: BSD-3-Clause

// Gnet is a server over gnet. Its event loops call OnTraffic, which writes the bytes that were
// read without another copy. It is built with poll_opt, as in the benchmarks of gnet's authors.
package main

import (
	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"

	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
)

type echo struct{ gnet.BuiltinEventEngine }

func (*echo) OnBoot(gnet.Engine) gnet.Action {
	server.Ready()
	return gnet.None
}

func (*echo) OnTraffic(c gnet.Conn) gnet.Action {
	buf, err := c.Next(-1)
	if err == nil {
		_, err = c.Write(buf)
	}
	if err != nil {
		return gnet.Close
	}
	return gnet.None
}

type sink struct{ echo }

func (*sink) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(new(server.Counter))
	return nil, gnet.None
}

func (*sink) OnTraffic(c gnet.Conn) gnet.Action {
	n, err := c.Discard(-1)
	if err != nil {
		return gnet.Close
	}
	if answer := c.Context().(*server.Counter).Add(n); len(answer) > 0 {
		if _, err := c.Write(answer); err != nil {
			return gnet.Close
		}
	}
	return gnet.None
}

func main() {
	args := server.Parse()
	var handler gnet.EventHandler = &echo{}
	if args.Sink {
		handler = &sink{}
	}
	server.Check(gnet.Run(handler, "tcp://"+args.Addr,
		gnet.WithNumEventLoop(args.Loops),
		gnet.WithReadBufferCap(server.ReadSize),
		gnet.WithLogLevel(logging.FatalLevel))) // so that it does not log the end of connections
}
