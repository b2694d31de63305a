package libevent_test

import (
	"fmt"
	"os"

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
	for range 3 { // together a megabyte a second each way
		bev, _ := base.NewSocket(-1, 0)
		if err := group.Add(bev); err != nil {
			fmt.Println(err)
		}
	}
	read, written := group.Totals()
	fmt.Println(read, written)
	// Output: 0 0
}

// Learn when a buffer gets full, and when it no longer is.
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
