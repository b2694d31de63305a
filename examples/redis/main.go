// SPDX-License-Identifier: BSD-3-Clause

// Redis is a gateway to a Redis server. Each line of a client is a command whose words are
// separated by blanks. The gateway answers it with a line, or, for an array, with its length
// and a line for each element.
//
//	go run . -addr 127.0.0.1:9596 -redis 127.0.0.1:6379
//
// Clients are bufferevents with Go closures. Each client has a hiredis connection to the
// server, with events of its own. All of them are on one event loop, which Go runs. SIGINT or
// SIGTERM ends the gateway once all clients have read the replies that are there, or after five
// seconds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/examples/redis/hiredis"
)

const (
	maxLine    = 64 << 10        // bytes
	maxOwed    = 1000            // commands of one client that may wait for their replies
	maxUnread  = 1 << 20         // unread bytes of a client at which the gateway stops reading from it
	drainLimit = 5 * time.Second // for which a client may read its rest
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("redis: ")
	addr := flag.String("addr", "127.0.0.1:9596", "host and `port` to listen on")
	server := flag.String("redis", "127.0.0.1:6379", "the server's literal `address` and port, or the path of its socket")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *addr, *server, func(addr net.Addr) { fmt.Println("redis: listening on", addr) }); err != nil {
		log.Fatal(err)
	}
}

// gateway has the clients. Only the loop's goroutine uses it and them.
type gateway struct {
	base    *libevent.Base
	redis   string // the server's address
	clients map[*client]bool
}

// client is a connection that sends lines, and its connection to the server.
type client struct {
	gateway *gateway
	bev     *libevent.BufferEvent
	redis   *hiredis.Client
	owed    int   // commands that wait for their replies
	ended   bool  // it sends no more
	refused error // why the gateway reads no more of its lines
}

// serve runs a gateway until ctx ends. It calls ready with the address once clients can
// connect.
func serve(ctx context.Context, addr, redis string, ready func(net.Addr)) error {
	base, err := libevent.NewBase()
	if err != nil {
		return err
	}
	defer base.Free()
	g := &gateway{base: base, redis: redis, clients: map[*client]bool{}}
	defer g.close() // before base.Free: hiredis clients must end before their base
	server, err := base.Serve("tcp", addr, libevent.ServeOptions{}, g.handler)
	if err != nil {
		return err
	}
	ready(server.Addr())
	if err := base.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	drain, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	_ = server.Shutdown(drain) // after the limit it frees the clients that have not read their rest
	return nil
}

func (g *gateway) close() {
	for c := range g.clients {
		c.drop()
	}
}

// handler serves a client that has connected.
func (g *gateway) handler(bev *libevent.BufferEvent) libevent.Handler {
	c := &client{gateway: g, bev: bev}
	var err error
	c.redis, err = hiredis.Dial(g.base, g.redis, nil, c.lost)
	if err != nil {
		_, _ = bev.WriteString(line(nil, err))
		_ = bev.FreeAfterFlush(drainLimit)
		return libevent.Handler{}
	}
	g.clients[c] = true
	_ = bev.SetWatermark(libevent.EvRead, 0, maxLine)
	_ = bev.SetWatermark(libevent.EvWrite, maxUnread/2, 0)
	return libevent.Handler{
		Read:      c.read,
		Written:   c.read, // goes on if it had stopped
		End:       func(bev *libevent.BufferEvent) { c.ended = true; c.read(bev) },
		Error:     func(*libevent.BufferEvent, error) { c.drop() },
		MaxOutput: -1, // read has a bound of its own, also for the lines that the input has already
	}
}

// read sends commands until the client waits for too many replies. Further lines wait in the
// input, and once the input is at its high mark, at the client.
func (c *client) read(bev *libevent.BufferEvent) {
	for c.refused == nil && c.owed < maxOwed && bev.Output().Len() < maxUnread {
		words, ok := c.next()
		if !ok {
			break
		}
		if len(words) == 0 {
			continue
		}
		if c.refused = c.redis.Do(c.reply, words...); c.refused == nil {
			c.owed++
		}
	}
	if c.owed == 0 && (c.refused != nil || c.ended && bev.Output().Len() < maxUnread) {
		if c.refused != nil {
			_, _ = bev.WriteString(line(nil, c.refused))
		}
		c.drop()
	}
}

// next returns the words of the next line.
func (c *client) next() (words []string, ok bool) {
	line, ok := c.bev.Input().ReadLine(libevent.EOLCRLF)
	if !ok && c.bev.Input().Len() >= maxLine {
		c.refused = errors.New("the line is too long")
	}
	return strings.Fields(string(line)), ok
}

// reply is called with the reply to a command.
func (c *client) reply(value any, err error) {
	if !c.gateway.clients[c] {
		return
	}
	c.owed--
	_, _ = c.bev.WriteString(line(value, err))
	c.read(c.bev)
}

// lost is called when the connection to the server has ended, also when drop has closed it.
func (c *client) lost(err error) {
	if err != nil {
		_, _ = c.bev.WriteString(line(nil, err))
		c.drop()
	}
}

// drop ends both connections. The client still gets its output.
func (c *client) drop() {
	if !c.gateway.clients[c] {
		return
	}
	delete(c.gateway.clients, c)
	_ = c.bev.FreeAfterFlush(drainLimit)
	_ = c.redis.Close()
}

// line is a reply as text.
func line(value any, err error) string { return string(appendLine(nil, value, err)) }

func appendLine(p []byte, value any, err error) []byte {
	if e, ok := value.(hiredis.Error); ok { // an element of an array
		value, err = nil, e
	}
	switch v := value.(type) {
	case []any:
		p = fmt.Appendf(p, "%d:\n", len(v))
		for _, element := range v {
			p = appendLine(p, element, nil)
		}
		return p
	case string:
		return fmt.Appendf(p, "%q\n", v)
	case int64:
		return fmt.Appendln(p, v)
	}
	if err != nil {
		return fmt.Appendln(p, "error:", err)
	}
	return append(p, "nil\n"...)
}
