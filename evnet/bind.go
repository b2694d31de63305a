// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// boundSocket makes a socket that is bound to local and can connect to remote.
func boundSocket(network string, local, remote net.Addr) (int, error) {
	domain, sa, err := sockaddr(network, local, remote)
	if err != nil {
		return -1, err
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(domain, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(fd, sa); err != nil {
		_ = syscall.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// sockaddr returns local in the form that bind wants, with its domain.
func sockaddr(network string, local, remote net.Addr) (domain int, sa syscall.Sockaddr, err error) {
	switch a := local.(type) {
	case *net.UnixAddr:
		if network == "unix" {
			return syscall.AF_UNIX, &syscall.SockaddrUnix{Name: a.Name}, nil
		}
	case *net.TCPAddr:
		if network == "unix" {
			break
		}
		ip := a.AddrPort().Addr().Unmap()
		if isWildcard(a) { // then remote decides the family
			ip = netip.IPv6Unspecified()
			if remote.(*net.TCPAddr).IP.To4() != nil {
				ip = netip.IPv4Unspecified()
			}
		}
		if ip.Is4() {
			return syscall.AF_INET, &syscall.SockaddrInet4{Port: a.Port, Addr: ip.As4()}, nil
		}
		if ip.Is6() {
			sa := &syscall.SockaddrInet6{Port: a.Port, Addr: ip.As16()}
			if a.Zone != "" {
				ifc, err := net.InterfaceByName(a.Zone)
				if err != nil {
					return 0, nil, err
				}
				sa.ZoneId = uint32(ifc.Index)
			}
			return syscall.AF_INET6, sa, nil
		}
	}
	return 0, nil, &net.AddrError{Err: "LocalAddr is not of network " + network, Addr: local.String()}
}

// isWildcard reports whether the address names no host, only a port.
func isWildcard(a *net.TCPAddr) bool { return len(a.IP) == 0 || a.IP.IsUnspecified() }
