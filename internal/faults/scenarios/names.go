// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"

	"github.com/go-libevent/libevent"
)

func init() {
	scenarios["connect by name"] = func(s *scene) error { return connectByName(s, false) }
	scenarios["connect by name, evdns"] = func(s *scene) error { return connectByName(s, true) }
	scenarios["lookup"] = func(s *scene) error { return lookup(s, "somewhere.test.") }
	scenarios["lookup, search"] = func(s *scene) error { return lookup(s, "somewhere") }
	scenarios["lookup, cancelled"] = lookupCancelled
	scenarios["dns settings"] = dnsSettings
}

// nameserver answers every question for an IPv4 address with 127.0.0.1, and others with
// nothing. If it is mute, it never answers.
func (s *scene) nameserver(mute bool) (addr string) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(err)
	s.later(func() { check(conn.Close()) })
	go func() {
		p := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(p)
			if err != nil {
				return
			}
			if answer := answerTo(p[:n]); answer != nil && !mute {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func answerTo(question []byte) []byte {
	const head, typeA = 12, 1
	if len(question) < head {
		return nil
	}
	end := head
	for end < len(question) && question[end] != 0 {
		end += 1 + int(question[end])
	}
	end += 5 // the root, the type and the class
	if end > len(question) {
		return nil
	}
	answer := append([]byte{}, question[:end]...)
	binary.BigEndian.PutUint16(answer[2:], 0x8180)
	for i := 8; i < head; i++ {
		answer[i] = 0
	}
	if binary.BigEndian.Uint16(question[end-4:]) == typeA {
		answer[7] = 1
		answer = append(answer, 0xc0, head, 0, typeA, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
	}
	return answer
}

func (s *scene) dns(cfg libevent.DNSConfig) (*libevent.DNSBase, error) {
	cfg.NoSystemConfig = true
	dns, err := s.base.NewDNSBase(cfg)
	if err == nil {
		s.later(dns.Free)
	}
	return dns, err
}

func connectByName(s *scene, evdns bool) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	var dns *libevent.DNSBase
	name := "localhost"
	if evdns {
		var err error
		if dns, err = s.dns(libevent.DNSConfig{Nameservers: []string{s.nameserver(false)}}); err != nil {
			return err
		}
		name = "somewhere.test."
	}
	l, err := s.base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, s.accept)
	if err != nil {
		return err
	}
	s.later(l.Free)
	l.SetErrorFunc(func(*libevent.Listener, error) {})
	port := l.Addr().(*net.TCPAddr).Port
	return s.dial(func(b *libevent.BufferEvent) error { return b.ConnectHostname(dns, "tcp", name, port) })
}

func lookup(s *scene, name string) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	dns, err := s.dns(libevent.DNSConfig{Nameservers: []string{s.nameserver(false)}, Search: []string{"test", "example"}})
	if err != nil {
		return err
	}
	if _, err := dns.Lookup("ip", name, func(addrs []netip.Addr, err error) {
		if err == nil && (len(addrs) != 1 || addrs[0].String() != "127.0.0.1") {
			s.bug("%s is %v", name, addrs)
		}
		s.end(err)
	}); err != nil {
		return err
	}
	return s.wait()
}

func lookupCancelled(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	dns, err := s.dns(libevent.DNSConfig{Nameservers: []string{s.nameserver(true)}})
	if err != nil {
		return err
	}
	l, err := dns.Lookup("ip", "somewhere.test.", func([]netip.Addr, error) {})
	if err != nil {
		return err
	}
	l.AfterFree(func() { s.end(nil) })
	l.Cancel()
	return s.wait()
}

func dnsSettings(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	dns, err := s.dns(libevent.DNSConfig{Ndots: 2, Options: map[string]string{"timeout": "2"}})
	if err != nil {
		return err
	}
	var errs []error
	for i := range 3 {
		errs = append(errs, dns.AddNameserver("127.0.0.1:"+strconv.Itoa(5300+i)))
	}
	errs = append(errs, dns.AddSearch("test"), dns.SetOption("attempts", "2"), dns.ClearSearch(), dns.ClearNameservers())
	return errors.Join(errs...)
}
