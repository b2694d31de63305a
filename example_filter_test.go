// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-libevent/libevent"
)

// compress returns a filter function that compresses what is written through it.
func compress() libevent.FilterFunc {
	var compressed bytes.Buffer
	w, _ := flate.NewWriter(&compressed, flate.DefaultCompression)
	return func(src, dst *libevent.Buffer, _ int, mode libevent.FlushMode) (libevent.FilterResult, error) {
		n, err := src.WriteTo(w)
		switch {
		case err != nil:
		case mode == libevent.FlushFinished:
			err = w.Close() // the end of the compressed stream
		case n > 0:
			err = w.Flush() // the other end need not wait for more
		}
		if err != nil {
			return libevent.FilterError, err
		}
		if compressed.Len() == 0 {
			return libevent.FilterNeedMore, nil
		}
		if _, err := compressed.WriteTo(dst); err != nil {
			return libevent.FilterError, err
		}
		return libevent.FilterOK, nil
	}
}

// decompress returns a filter function that decompresses what is read through it. Package flate
// pulls, and a filter function is given bytes, so this one waits for the end. At the end flate
// finds out whether the stream is whole.
func decompress() libevent.FilterFunc {
	var compressed bytes.Buffer
	return func(src, dst *libevent.Buffer, _ int, mode libevent.FlushMode) (libevent.FilterResult, error) {
		if _, err := src.WriteTo(&compressed); err != nil {
			return libevent.FilterError, err
		}
		if mode != libevent.FlushFinished {
			return libevent.FilterNeedMore, nil
		}
		plain, err := io.ReadAll(flate.NewReader(&compressed))
		if err != nil {
			return libevent.FilterError, err // io.ErrUnexpectedEOF for a stream that was cut
		}
		return libevent.FilterOK, dst.Add(plain)
	}
}

// One side compresses, the other decompresses. The second stream is cut, and that shows.
func ExampleFilterFunc() {
	base, _ := libevent.NewBase()
	defer base.Free()
	var wire bytes.Buffer
	w, _ := flate.NewWriter(&wire, flate.DefaultCompression)
	fmt.Fprint(w, strings.Repeat("all work and no play makes a dull stream. ", 1000))
	_ = w.Close()
	for _, stream := range [][]byte{wire.Bytes(), wire.Bytes()[:wire.Len()/2]} {
		sender, receiver, _ := base.NewPair(0)
		f, _ := libevent.NewFilter(receiver, decompress(), nil, libevent.OptCloseOnFree)
		_ = f.Handle(libevent.Handler{
			Read: func(f *libevent.BufferEvent) {
				fmt.Println(f.Input().Len(), "bytes")
				_ = f.Input().Drain(f.Input().Len())
			},
			End:   func(f *libevent.BufferEvent) { fmt.Println("the end"); f.Free() },
			Error: func(f *libevent.BufferEvent, err error) { fmt.Println(err); f.Free() },
		})
		_, _ = sender.Write(stream)
		_ = sender.FreeAfterFlush(time.Minute)
		_ = base.Dispatch()
	}
	// Output:
	// 42000 bytes
	// the end
	// libevent: filter: unexpected EOF
}

// A server that compresses what it sends, on a real socket.
func ExampleNewFilter() {
	base, _ := libevent.NewBase()
	defer base.Free()
	server, _ := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{},
		func(l *libevent.Listener, fd int, _ net.Addr) {
			l.Free()
			socket, _ := base.NewSocket(fd, libevent.OptCloseOnFree)
			f, err := libevent.NewFilter(socket, nil, compress(), libevent.OptCloseOnFree)
			if err != nil {
				fmt.Println(err)
				return
			}
			_, _ = f.WriteString(strings.Repeat("all work and no play makes a dull stream. ", 1000))
			_ = f.FreeAfterFlush(time.Minute)
		})

	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			fmt.Println(err)
			return
		}
		defer conn.Close()
		wire, _ := io.ReadAll(conn)
		text, err := io.ReadAll(flate.NewReader(bytes.NewReader(wire)))
		fmt.Println(len(text), "bytes, smaller on the wire:", len(wire) < len(text)/10, err)
	}()
	_ = base.Dispatch()
	<-done
	// Output: 42000 bytes, smaller on the wire: true <nil>
}

func ExampleBufferEvent_SetRateLimit() {
	base, _ := libevent.NewBase()
	defer base.Free()
	bev, _ := base.NewSocket(-1, 0)
	// A kilobyte a second, measured ten times a second, and never more than two at once.
	err := bev.SetRateLimit(&libevent.RateLimit{
		ReadRate: 100, ReadBurst: 2000,
		WriteRate: 100, WriteBurst: 2000,
		Tick: 100 * time.Millisecond,
	})
	fmt.Println(bev.ReadLimit(), err)
	// Output: 100 <nil>
}
