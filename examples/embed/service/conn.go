package main

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/go-libevent/libevent"
)

const (
	maxLine = 64 << 10 // bytes
	maxMany = 1 << 20  // lines
)

// conn is a connection that Go answers on. Only closures touch it, so only one thread.
type conn struct {
	bev  *libevent.BufferEvent
	lent bool   // by C, which gets it back
	end  func() // no more of it here

	busy  bool // with a line, until its answer is written
	ended bool // the client sends no more
}

func (c *conn) read(*libevent.BufferEvent) { c.next() }

func (c *conn) written(*libevent.BufferEvent) {
	if c.busy {
		return // the output was C's, from before
	}
	_ = c.bev.Enable(libevent.EvRead)
	c.next()
}

func (c *conn) event(_ *libevent.BufferEvent, what libevent.Events) {
	if what&libevent.EventEOF != 0 {
		c.ended = true
		c.next()
		return
	}
	slog.Warn("embed: Go: connection", "err", c.bev.Err())
	c.end()
}

// next begins with the next line when the one before is answered. Meanwhile nothing is
// read, so a client that sends and does not read takes no memory.
func (c *conn) next() {
	if c.busy || c.bev.Output().Len() > 0 {
		return
	}
	line, ok := c.bev.Input().ReadLine(libevent.EOLCRLF)
	if !ok {
		if c.ended || c.bev.Input().Len() > maxLine {
			c.end()
		}
		return
	}
	word, argument, _ := strings.Cut(string(line), " ")
	switch {
	case word == "panic":
		_ = base.Post(c.next) // the loop goes on, and so does the connection
		panic("the client said " + string(line))
	case word == "back" && c.lent:
		c.end()
		return
	}
	_ = c.bev.Disable(libevent.EvRead)
	if word == "many" {
		n, _ := strconv.Atoi(argument)
		c.answer(strings.Repeat("Go\n", min(max(n, 1), maxMany)))
		return
	}
	c.busy = true
	// The loop does not wait for what takes time.
	go func() {
		answer := fmt.Sprintf("Go %x\n", sha256.Sum256(line))
		_ = base.Post(func() {
			c.busy = false
			c.answer(answer)
		})
	}()
}

// answer writes, and what is next waits for the write closure.
func (c *conn) answer(text string) {
	if _, err := c.bev.WriteString(text); err != nil {
		c.end()
	}
}
