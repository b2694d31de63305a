// SPDX-License-Identifier: BSD-3-Clause

package openssl

import "github.com/go-libevent/libevent"

// Socket is NewSocket for libevent.ServeOptions:
//
//	base.Serve("tcp", ":8443", libevent.ServeOptions{NewSocket: ctx.Socket}, handler)
//
// ConnOf returns the Conn.
func (c *Context) Socket(base *libevent.Base, fd int, opts libevent.Options) (*libevent.BufferEvent, error) {
	conn, err := c.NewSocket(base, fd, opts)
	if err != nil {
		return nil, err
	}
	return conn.BufferEvent, nil
}
