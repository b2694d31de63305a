// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"crypto/sha256"
	"errors"
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

// conn is a connection whose lines Go answers. Only closures use it, so only the loop's thread.
type conn struct {
	bev  *libevent.BufferEvent
	lent bool   // by C, so C gets it back
	end  func() // frees it or gives it back

	busy  bool // with a line whose answer is not ready
	ended bool // the client sends no more
}

// begin has the loop call the closures, and enables both directions. Lines that C has left in
// the input are answered, too.
func (c *conn) begin() error {
	return errors.Join(c.bev.Handle(libevent.Handler{
		Read:    func(*libevent.BufferEvent) { c.next() },
		Written: c.written,
		End:     func(*libevent.BufferEvent) { c.ended = true; c.next() },
		Error: func(_ *libevent.BufferEvent, err error) {
			slog.Warn("embed: Go: connection", "err", err)
			c.end()
		},
		MaxOutput: -1, // next has a stricter bound
	}), c.bev.Enable(libevent.EvWrite))
}

func (c *conn) written(*libevent.BufferEvent) {
	if c.busy {
		return // the output that was written is not this line's answer
	}
	_ = c.bev.Enable(libevent.EvRead)
	c.next()
}

// next answers the next line, once the answer to the line before is written. Until then it
// does not read, so a client that sends and does not read costs little memory.
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
	// This may take long, so it must not run on the loop's thread.
	go func() {
		answer := fmt.Sprintf("Go %x\n", sha256.Sum256(line))
		_ = base.Post(func() {
			c.busy = false
			c.answer(answer)
		})
	}()
}

// answer writes the answer to a line. The write closure then goes on with the next line.
func (c *conn) answer(text string) {
	if _, err := c.bev.WriteString(text); err != nil {
		c.end()
	}
}
