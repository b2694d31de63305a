// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// Connect to a server by its name. With nil Go looks the name up, and with a DNSBase
// libevent does.
func ExampleBufferEvent_ConnectHostname() {
	base, err := libevent.NewBase()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer base.Free()

	// A server that says hello.
	server, err := base.Listen("tcp4", "127.0.0.1:0", libevent.ListenOptions{},
		func(l *libevent.Listener, fd int, _ net.Addr) {
			l.Free()
			bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
			if err != nil {
				_ = syscall.Close(fd)
				return
			}
			_, _ = bev.WriteString("hello")
			_ = bev.FreeAfterFlush(time.Second)
		})
	if err != nil {
		fmt.Println(err)
		return
	}

	client, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = client.SetCallbacks(nil, nil, func(bev *libevent.BufferEvent, what libevent.Events) {
		switch {
		case what&libevent.EventConnected != 0:
			fmt.Println("connected")
		case what&libevent.EventEOF != 0:
			said, _ := io.ReadAll(bev)
			fmt.Printf("%s\n", said)
			bev.Free()
		default: // there is no such name, or none of its addresses takes the connection
			fmt.Println(bev.Err())
			bev.Free()
		}
	})
	_ = client.Enable(libevent.EvRead)
	port := server.Addr().(*net.TCPAddr).Port
	if err := client.ConnectHostname(nil, "tcp4", "localhost", port); err != nil {
		fmt.Println(err)
		return
	}
	_ = base.Dispatch()
	// Output:
	// connected
	// hello
}

// Look names up without blocking the loop.
func ExampleDNSBase_Lookup() {
	base, err := libevent.NewBase()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer base.Free()

	hosts, err := os.CreateTemp("", "hosts")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.Remove(hosts.Name())
	_, _ = hosts.WriteString("192.0.2.1 printer.example\n2001:db8::1 printer.example\n")
	_ = hosts.Close()

	// The zero DNSConfig asks the system's name servers.
	dns, err := base.NewDNSBase(libevent.DNSConfig{NoSystemConfig: true, Hosts: hosts.Name()})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = dns.Lookup("ip", "printer.example", func(addrs []netip.Addr, err error) {
		fmt.Println(addrs, err)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = base.Dispatch()
	// Output: [192.0.2.1 2001:db8::1] <nil>
}
