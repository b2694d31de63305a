// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-libevent/libevent"
)

func ExampleBuffer_AddFile() {
	f, _ := os.CreateTemp("", "example")
	defer os.Remove(f.Name())
	_, _ = f.WriteString("header, body, trailer")

	b, _ := libevent.NewBuffer()
	defer b.Free()
	err := b.AddFile(f, 8, 4)
	_ = f.Close() // the buffer has a descriptor of its own
	p := make([]byte, b.Len())
	_, _ = b.CopyOut(p)
	fmt.Printf("%s %v\n", p, err)
	// Output: body <nil>
}

func ExampleBuffer_AddReference() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	big := make([]byte, 1<<20)
	_ = b.AddReference(big, func() { fmt.Println("big may be used again") })
	_ = b.Drain(1<<20 - 1)
	fmt.Println("one byte left")
	_ = b.Drain(1)
	// Output:
	// one byte left
	// big may be used again
}

func ExampleBuffer_Reserve() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	_ = b.Reserve(64, func(spans [][]byte) int {
		return copy(spans[0], "written where it stays")
	})
	line, _ := b.ReadLine(libevent.EOLLF)
	fmt.Println(b.Len(), len(line))
	// Output: 22 0
}

func ExampleBase_NewRateLimitGroup() {
	base, _ := libevent.NewBase()
	defer base.Free()
	group, _ := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 1 << 20, WriteRate: 1 << 20})
	for range 3 { // all together a megabyte a second in each direction
		bev, _ := base.NewSocket(-1, 0)
		if err := group.Add(bev); err != nil {
			fmt.Println(err)
		}
	}
	read, written := group.Totals()
	fmt.Println(read, written)
	// Output: 0 0
}

// A callback learns when a buffer gets full, and when it is not full any more.
func ExampleBuffer_AddCallback() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	const full = 8
	cb, _ := b.AddCallback(func(b *libevent.Buffer, added, deleted int) {
		fmt.Printf("+%d -%d, full: %v\n", added, deleted, b.Len() >= full)
	})
	_ = b.Add([]byte("12345"))
	_ = b.Add([]byte("67890"))
	_ = b.Drain(7)
	cb.Remove()
	_ = b.Drain(1)
	// Output:
	// +5 -0, full: false
	// +5 -0, full: true
	// +0 -7, full: false
}

// A buffer is used with package io like any reader and writer.
func ExampleNewBuffer() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	_, _ = fmt.Fprintf(b, "%d bytes, ", 21)
	_, _ = b.ReadFrom(strings.NewReader("of two"))
	_ = b.Prepend([]byte("about "))
	_, _ = b.WriteTo(os.Stdout)
	fmt.Println(", left:", b.Len())
	// Output: about 21 bytes, of two, left: 0
}

// Move memory from one buffer to another instead of copying it.
func ExampleBuffer_AddBuffer() {
	src, _ := libevent.NewBuffer()
	defer src.Free()
	dst, _ := libevent.NewBuffer()
	defer dst.Free()
	_ = src.Add([]byte("head and body"))
	_, _ = src.RemoveBuffer(dst, len("head"))
	fmt.Println(dst.Len(), src.Len())
	_ = dst.AddBuffer(src)
	fmt.Println(dst.Len(), src.Len())
	// Output:
	// 4 9
	// 13 0
}

// Look at a header in one piece, wherever its bytes are.
func ExampleBuffer_Pullup() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	_ = b.Add([]byte{0, 5})
	_ = b.Add([]byte("hello"))
	_ = b.Pullup(2, func(p []byte) {
		fmt.Println("length", binary.BigEndian.Uint16(p))
	})
	err := b.Pullup(100, func([]byte) {})
	fmt.Println(errors.Is(err, io.ErrShortBuffer))
	// Output:
	// length 5
	// true
}

func ExampleBuffer_Search() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	_ = b.Add([]byte("key=value;key=other"))
	first := b.Search([]byte("key="), 0)
	second := b.Search([]byte("key="), first+1)
	fmt.Println(first, second, b.Search([]byte("none"), 0))
	// Output: 0 10 -1
}

// A file segment sends a part of a file more than once, and opens it once.
func ExampleNewFileSegment() {
	f, _ := os.CreateTemp("", "example")
	defer os.Remove(f.Name())
	_, _ = f.WriteString("header and footer")
	s, err := libevent.NewFileSegment(f, 0, -1, libevent.FileSegmentOptions{DisableSendfile: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = f.Close()
	_ = s.SetCleanup(func() { fmt.Println("the file is closed") })

	b, _ := libevent.NewBuffer()
	defer b.Free()
	_ = b.AddFileSegment(s, 0, 6)
	_ = b.Add([]byte(", "))
	_ = b.AddFileSegment(s, 11, -1)
	s.Free()
	text, _ := io.ReadAll(b)
	fmt.Printf("%s\n", text)
	// Output:
	// the file is closed
	// header, footer
}

// A frozen front keeps others from taking bytes away.
func ExampleBuffer_Freeze() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	_ = b.Add([]byte("kept"))
	_ = b.Freeze(true)
	fmt.Println(b.Drain(1) == libevent.ErrFrozen, b.Len())
	_ = b.Unfreeze(true)
	fmt.Println(b.Drain(1), b.Len())
	// Output:
	// true 4
	// <nil> 3
}
