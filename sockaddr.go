// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include <sys/socket.h>
#include "native.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"
)

// parseAddr reads a literal address of the networks that net.Dial knows as "tcp",
// "tcp4", "tcp6" and "unix". An empty host means the unspecified IP address.
func parseAddr(network, address string) (C.struct_glev_addr, error) {
	var a C.struct_glev_addr
	switch network {
	case "unix":
		return unixAddr(address)
	case "tcp", "tcp4", "tcp6":
	default:
		return a, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return a, err
	}
	port, err := net.DefaultResolver.LookupPort(context.Background(), network, service)
	if err != nil {
		return a, err
	}
	ip := netip.IPv6Unspecified()
	if network == "tcp4" {
		ip = netip.IPv4Unspecified()
	}
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return a, fmt.Errorf("address %q: %w", address, errNotLiteral)
		}
		ip = ip.Unmap()
	}
	if network == "tcp4" && !ip.Is4() || network == "tcp6" && !ip.Is6() {
		return a, fmt.Errorf("address %q is not of network %s", address, network)
	}
	return ipAddr(ip, port)
}

var errNotLiteral = errors.New("not a literal IP address: ConnectHostname takes host names")

func ipAddr(ip netip.Addr, port int) (C.struct_glev_addr, error) {
	var a C.struct_glev_addr
	a.family = C.AF_INET
	if ip.Is6() {
		a.family = C.AF_INET6
	}
	if zone := ip.Zone(); zone != "" {
		scope, err := strconv.Atoi(zone)
		if err != nil {
			ifc, err := net.InterfaceByName(zone)
			if err != nil {
				return a, fmt.Errorf("zone %q: %w", zone, err)
			}
			scope = ifc.Index
		}
		a.scope = C.uint32_t(scope)
	}
	a.port = C.int(port)
	setData(&a, ip.AsSlice())
	return a, nil
}

// unixAddr reads a path, or an abstract name after an "@".
func unixAddr(path string) (C.struct_glev_addr, error) {
	var a C.struct_glev_addr
	a.family = C.AF_UNIX
	data := []byte(path)
	if len(data) == 0 {
		return a, errors.New("address: the path is empty")
	}
	if data[0] == '@' {
		data[0] = 0
	}
	if len(data) > len(a.data) {
		return a, fmt.Errorf("address: the path has %d bytes, the system takes %d", len(data), len(a.data)-1)
	}
	setData(&a, data)
	return a, nil
}

func setData(a *C.struct_glev_addr, data []byte) {
	a.len = C.int(len(data))
	for i, c := range data {
		a.data[i] = C.uchar(c)
	}
}

// netAddr converts an address to the form of package net. It returns nil if a has no
// address.
func netAddr(a *C.struct_glev_addr) net.Addr {
	switch a.family {
	case C.AF_INET, C.AF_INET6:
		return net.TCPAddrFromAddrPort(addrPort(a))
	case C.AF_UNIX:
		name := string(data(a))
		if name != "" && name[0] == 0 {
			name = "@" + name[1:]
		}
		return &net.UnixAddr{Name: name, Net: "unix"}
	}
	return nil
}

func addrPort(a *C.struct_glev_addr) netip.AddrPort {
	return netip.AddrPortFrom(netIP(a), uint16(a.port))
}

func data(a *C.struct_glev_addr) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&a.data[0])), len(a.data))[:a.len]
}

// netIP returns the IP address of an address that has one.
func netIP(a *C.struct_glev_addr) netip.Addr {
	ip, _ := netip.AddrFromSlice(data(a))
	if a.scope == 0 {
		return ip
	}
	zone := strconv.Itoa(int(a.scope))
	if ifc, err := net.InterfaceByIndex(int(a.scope)); err == nil {
		zone = ifc.Name
	}
	return ip.WithZone(zone)
}

// fdAddr returns the address at this end of a descriptor, or that of its peer.
func fdAddr(fd C.int, peer bool) (net.Addr, error) {
	var a C.struct_glev_addr
	side := C.int(0)
	if peer {
		side = 1
	}
	if rc := C.glev_addr_of_fd(fd, side, &a); rc < 0 {
		return nil, syscall.Errno(-rc)
	}
	return netAddr(&a), nil
}
