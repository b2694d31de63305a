package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/openssl"
)

func cert() tls.Certificate {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"x"}}
	der, _ := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func main() {
	switch os.Args[1] {
	case "gonet":
		ln, err := tls.Listen("tcp", os.Args[2], &tls.Config{Certificates: []tls.Certificate{cert()}})
		if err != nil {
			panic(err)
		}
		for {
			c, err := ln.Accept()
			if err != nil {
				panic(err)
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					c.Write(buf[:n])
				}
			}()
		}
	case "ours":
		base, _ := libevent.NewBase()
		ctx, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{cert()}})
		if err != nil {
			panic(err)
		}
		opts := libevent.OptCloseOnFree
		if len(os.Args) > 3 {
			opts |= libevent.OptLoopOnly
		}
		_, err = base.Listen("tcp", os.Args[2], libevent.ListenOptions{}, func(_ *libevent.Listener, fd int, _ net.Addr) {
			conn, err := ctx.NewSocket(base, fd, opts)
			if err != nil {
				panic(err)
			}
			conn.SetCallbacks(func(b *libevent.BufferEvent) { b.WriteBuffer(b.Input()) }, nil, func(b *libevent.BufferEvent, what libevent.Events) {
				if what != libevent.EventConnected {
					b.Free()
				}
			})
			conn.Enable(libevent.EvRead)
		})
		if err != nil {
			panic(err)
		}
		base.Dispatch()
	case "load": // addr pid conns size seconds
		pid := os.Args[3]
		conns, _ := strconv.Atoi(os.Args[4])
		size, _ := strconv.Atoi(os.Args[5])
		secs, _ := strconv.Atoi(os.Args[6])
		var msgs atomic.Int64
		var wg sync.WaitGroup
		stop := make(chan struct{})
		ready := sync.WaitGroup{}
		ready.Add(conns)
		for range conns {
			wg.Go(func() {
				c, err := tls.Dial("tcp", os.Args[2], &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					panic(err)
				}
				defer c.Close()
				ready.Done()
				p := make([]byte, size)
				for {
					select {
					case <-stop:
						return
					default:
					}
					c.Write(p)
					if _, err := io.ReadFull(c, p); err != nil {
						panic(err)
					}
					msgs.Add(1)
				}
			})
		}
		ready.Wait()
		time.Sleep(300 * time.Millisecond)
		m0, c0 := msgs.Load(), cpu(pid)
		t0 := time.Now()
		time.Sleep(time.Duration(secs) * time.Second)
		m, c := msgs.Load()-m0, cpu(pid)-c0
		fmt.Printf("%8.0f msg/s  %6.2f us CPU/msg\n", float64(m)/time.Since(t0).Seconds(), float64(c)*10000/float64(m))
		close(stop)
		wg.Wait()
	}
	_ = syscall.SIGINT
}

func cpu(pid string) int64 {
	b, _ := os.ReadFile("/proc/" + pid + "/stat")
	var f [20]int64
	s := string(b)
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == ')' {
			s = s[i+4:]
			break
		}
	}
	for i := range 12 {
		fmt.Sscan(s, &f[i])
		for len(s) > 0 && s[0] != ' ' {
			s = s[1:]
		}
		for len(s) > 0 && s[0] == ' ' {
			s = s[1:]
		}
	}
	return f[10] + f[11]
}
