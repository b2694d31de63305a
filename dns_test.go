// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// nameserver is a real name server on loopback.
type nameserver struct {
	conn *net.UDPConn

	mu      sync.Mutex
	records map[string][]string // addresses by name; a name without an entry does not exist
	silent  bool                // the server keeps its answers
	waiting []func()            // the answers that the server keeps
	asked   map[string]int
}

func newNameserver(t testing.TB, records map[string][]string) *nameserver {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	s := &nameserver{conn: conn, records: records, asked: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		assert.NoError(t, conn.Close())
		<-done
	})
	return s
}

func (s *nameserver) addr() string { return s.conn.LocalAddr().String() }

func (s *nameserver) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(packet)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		var query dnsmessage.Message
		if err != nil || query.Unpack(packet[:n]) != nil {
			continue
		}
		s.mu.Lock()
		reply := s.reply(query)
		give := func() { _, _ = s.conn.WriteToUDPAddrPort(reply, from) }
		if s.silent {
			s.waiting = append(s.waiting, give)
		} else {
			give()
		}
		s.mu.Unlock()
	}
}

func (s *nameserver) reply(query dnsmessage.Message) []byte {
	question := query.Questions[0] // libevent sends the name in random case, and wants it back unchanged
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	s.asked[name]++
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, RecursionAvailable: true},
		Questions: query.Questions,
	}
	addrs, exists := s.records[name]
	if !exists {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range addrs {
		ip := netip.MustParseAddr(addr)
		header := dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class, TTL: 60}
		switch {
		case ip.Is4() && question.Type == dnsmessage.TypeA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: ip.As4()}})
		case ip.Is6() && question.Type == dnsmessage.TypeAAAA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
		}
	}
	packet, _ := reply.Pack()
	return packet
}

// hush makes the server keep its answers, or send them from now on.
func (s *nameserver) hush(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
}

// speak sends the answers that were kept.
func (s *nameserver) speak() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, give := range s.waiting {
		give()
	}
	s.silent, s.waiting = false, nil
}

func (s *nameserver) wasAsked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}

// newDNS makes a resolver that asks the given server and no other.
func newDNS(t testing.TB, base *libevent.Base, s *nameserver) *libevent.DNSBase {
	t.Helper()
	cfg := libevent.DNSConfig{NoSystemConfig: true}
	if s != nil {
		cfg.Nameservers = []string{s.addr()}
	}
	return testutil.NewDNSBase(t, base, cfg)
}

type answer struct {
	addrs []string
	err   error
}

// lookUp starts a lookup. Its answer comes on a channel, once.
func lookUp(t testing.TB, dns *libevent.DNSBase, network, host string) (<-chan answer, *libevent.DNSLookup) {
	t.Helper()
	got := make(chan answer, 1)
	answered := false
	l, err := dns.Lookup(network, host, func(addrs []netip.Addr, err error) {
		assert.False(t, answered, "one answer")
		answered = true
		var texts []string
		for _, addr := range addrs {
			texts = append(texts, addr.String())
		}
		got <- answer{texts, err}
	})
	require.NoError(t, err)
	return got, l
}

// lookedUp runs the loop until a lookup is answered.
func lookedUp(t testing.TB, base *libevent.Base, dns *libevent.DNSBase, network, host string) ([]string, error) {
	t.Helper()
	got, _ := lookUp(t, dns, network, host)
	testutil.Dispatch(t, base)
	a := testutil.Receive(t, got)
	return a.addrs, a.err
}

func TestDNSLookup(t *testing.T) {
	s := newNameserver(t, map[string][]string{
		"both.test": {"192.0.2.1", "192.0.2.2", "2001:db8::1"},
		"four.test": {"192.0.2.4"},
		"six.test":  {"2001:db8::6"},
		"none.test": {},
	})
	for _, c := range []struct {
		network, host string
		want          []string
	}{
		{"ip", "both.test", []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}},
		{"ip4", "both.test", []string{"192.0.2.1", "192.0.2.2"}},
		{"ip6", "both.test", []string{"2001:db8::1"}},
		{"ip", "four.test", []string{"192.0.2.4"}},
		{"ip", "FOUR.test.", []string{"192.0.2.4"}},
		{"ip", "six.test", []string{"2001:db8::6"}},
		{"ip6", "four.test", nil},
		{"ip", "none.test", nil},
		{"ip", "nowhere.test", nil},
		{"ip", "192.0.2.99", []string{"192.0.2.99"}},
		{"ip6", "2001:db8::99", []string{"2001:db8::99"}},
	} {
		t.Run(c.network+" "+c.host, func(t *testing.T) {
			base := testutil.NewBase(t)
			dns := newDNS(t, base, s)
			assert.Equal(t, 1, base.Stats().DNSBases)
			got, err := lookedUp(t, base, dns, c.network, c.host)
			assert.Equal(t, c.want, got)
			if c.want != nil {
				assert.NoError(t, err)
				return
			}
			var op *libevent.Error
			var cause *libevent.DNSError
			require.ErrorAs(t, err, &op)
			require.ErrorAs(t, err, &cause)
			assert.Equal(t, "lookup", op.Op)
			assert.Equal(t, c.host, cause.Host)
			assert.Equal(t, c.host == "nowhere.test", cause.IsNotFound(), "evdns tells no more")
			assert.Contains(t, err.Error(), c.host)
			assert.False(t, op.Timeout())
			assert.False(t, op.Temporary())
			assert.Zero(t, base.Stats().DNSLookups)
		})
	}
}

func TestDNSLookupArguments(t *testing.T) {
	base := testutil.NewBase(t)
	dns := newDNS(t, base, nil)
	fn := func([]netip.Addr, error) { assert.Fail(t, "called") }
	for _, c := range [][2]string{
		{"tcp", "host.test"}, {"", "host.test"}, {"ip", ""}, {"ip", "."}, {"ip", "a..b"}, {"ip", ".a"},
		{"ip", "nul\x00"}, {"ip", strings.Repeat("a", 64) + ".test"}, {"ip", strings.Repeat("a.", 128)},
	} {
		_, err := dns.Lookup(c[0], c[1], fn)
		assert.ErrorIs(t, err, syscall.EINVAL, "%q", c)
	}
	_, err := dns.Lookup("ip", "host.test", nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	dns.Free()
	dns.Free()
	_, err = dns.Lookup("ip", "host.test", fn)
	assert.ErrorIs(t, err, libevent.ErrClosed)
	assert.ErrorIs(t, dns.AddNameserver("127.0.0.1"), libevent.ErrClosed)
	assert.ErrorIs(t, dns.ClearNameservers(), libevent.ErrClosed)
	assert.ErrorIs(t, dns.Resume(), libevent.ErrClosed)
	assert.ErrorIs(t, dns.SetNdots(1), libevent.ErrClosed)
	assert.Nil(t, dns.Nameservers())
	testutil.Dispatch(t, base)
}

// The closure is called by the loop and not inside Lookup, also if the answer is known at
// once.
func TestDNSLookupAnsweredAtOnce(t *testing.T) {
	hosts := writeFile(t, "192.0.2.7 known.test\n192.0.2.8 known.test second.test\n2001:db8::7 six.test # comment\n")
	base := testutil.NewBase(t)
	dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{NoSystemConfig: true, Hosts: hosts})
	got, _ := lookUp(t, dns, "ip", "known.test")
	assert.Empty(t, got)
	testutil.Dispatch(t, base)
	assert.Equal(t, answer{[]string{"192.0.2.7", "192.0.2.8"}, nil}, testutil.Receive(t, got))

	onLoop := make(chan answer, 1)
	require.NoError(t, base.Post(func() {
		inside := true
		_, err := dns.Lookup("ip6", "six.test", func(addrs []netip.Addr, err error) {
			assert.False(t, inside)
			onLoop <- answer{[]string{fmt.Sprint(addrs)}, err}
		})
		assert.NoError(t, err)
		inside = false
	}))
	testutil.Dispatch(t, base)
	assert.Equal(t, answer{[]string{"[2001:db8::7]"}, nil}, testutil.Receive(t, onLoop))

	_, err := lookedUp(t, base, dns, "ip4", "six.test")
	var cause *libevent.DNSError
	require.ErrorAs(t, err, &cause, "in the file, but not of that family")
	assert.True(t, cause.IsNotFound(), "%v", cause)

	require.NoError(t, dns.ClearHosts())
	forgotten, l := lookUp(t, dns, "ip", "known.test")
	require.NoError(t, base.Loop(libevent.LoopNonblock))
	assert.Empty(t, forgotten, "there is no name server to ask")
	l.Cancel()
	require.NoError(t, dns.LoadHosts(hosts))
	addrs, err := lookedUp(t, base, dns, "ip", "second.test")
	assert.NoError(t, err)
	assert.Equal(t, []string{"192.0.2.8"}, addrs)
}

func writeFile(t testing.TB, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDNSSearch(t *testing.T) {
	s := newNameserver(t, map[string][]string{
		"host.first.test": {"192.0.2.1"}, "host.second.test": {"192.0.2.2"}, "other.second.test": {"192.0.2.3"},
		"a.b": {"192.0.2.4"}, "a.b.first.test": {"192.0.2.5"}, "only.third.test": {"192.0.2.6"},
	})
	base := testutil.NewBase(t)
	dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{
		NoSystemConfig: true, Nameservers: []string{s.addr()}, Search: []string{"first.test", "second.test"},
	})
	expect := func(host string, want ...string) {
		t.Helper()
		got, err := lookedUp(t, base, dns, "ip4", host)
		assert.Equal(t, want, got)
		assert.Equal(t, want == nil, err != nil)
	}
	expect("host", "192.0.2.1")
	expect("other", "192.0.2.3")
	expect("a.b", "192.0.2.4")
	require.NoError(t, dns.SetNdots(2))
	expect("a.b", "192.0.2.5")
	expect("only")
	require.NoError(t, dns.AddSearch("third.test"))
	expect("only", "192.0.2.6")
	expect("host", "192.0.2.1")
	require.NoError(t, dns.ClearSearch())
	expect("host")
	for _, domain := range []string{"", ".", "a..b", "\x00"} {
		assert.ErrorIs(t, dns.AddSearch(domain), syscall.EINVAL, "%q", domain)
	}
	assert.ErrorIs(t, dns.SetNdots(-1), syscall.EINVAL)
}

func TestDNSResolvConf(t *testing.T) {
	s := newNameserver(t, map[string][]string{"host.first.test": {"192.0.2.1"}})
	path := writeFile(t, "# comment\nnameserver 192.0.2.53\nnameserver [2001:db8::53]:5353\n"+
		"search first.test second.test\noptions timeout:0.01 attempts:1\n")
	base := testutil.NewBase(t)
	dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{ResolvConf: path, Nameservers: []string{s.addr()}})
	var got []string
	for _, addr := range dns.Nameservers() {
		got = append(got, addr.String())
	}
	assert.ElementsMatch(t, []string{"192.0.2.53:53", "[2001:db8::53]:5353", s.addr()}, got)

	only := newDNS(t, base, s)
	require.NoError(t, only.ParseResolvConf(path, libevent.DNSSearch))
	assert.Len(t, only.Nameservers(), 1)
	addrs, err := lookedUp(t, base, only, "ip4", "host")
	assert.NoError(t, err)
	assert.Equal(t, []string{"192.0.2.1"}, addrs)

	assert.ErrorIs(t, only.ParseResolvConf(path+"-not-there", libevent.DNSAll), os.ErrNotExist)
	assert.ErrorIs(t, only.ParseResolvConf(path, 1<<20), syscall.EINVAL)
	assert.ErrorIs(t, only.LoadHosts(path+"-not-there"), os.ErrNotExist)
	assert.ErrorIs(t, only.LoadHosts("nul\x00"), syscall.EINVAL)
	assert.Len(t, only.Nameservers(), 1, "nothing was made up")

	empty := testutil.NewDNSBase(t, base, libevent.DNSConfig{ResolvConf: writeFile(t, "")})
	require.Len(t, empty.Nameservers(), 1)
	assert.Equal(t, "127.0.0.1:53", empty.Nameservers()[0].String(), "as resolv.conf(5) says")
}

// A configuration that is refused leaves nothing behind.
func TestDNSConfigArguments(t *testing.T) {
	base := testutil.NewBase(t)
	for _, cfg := range []libevent.DNSConfig{
		{NoSystemConfig: true, Nameservers: []string{"ns.test"}},
		{NoSystemConfig: true, Nameservers: []string{"127.0.0.1:0"}},
		{NoSystemConfig: true, Nameservers: []string{"127.0.0.1:70000"}},
		{NoSystemConfig: true, Nameservers: []string{""}},
		{NoSystemConfig: true, Nameservers: []string{"127.0.0.1", "127.0.0.1:53"}},
		{NoSystemConfig: true, Options: map[string]string{"no-such-option": "1"}},
		{NoSystemConfig: true, Options: map[string]string{"timeout": "soon"}},
		{NoSystemConfig: true, Options: map[string]string{"timeout": "-1"}},
		{NoSystemConfig: true, Options: map[string]string{"timeout": "1e300"}},
		{NoSystemConfig: true, Options: map[string]string{"timeout": "0"}},
		{NoSystemConfig: true, Options: map[string]string{"bind-to": "here"}},
		{NoSystemConfig: true, Search: []string{"a..b"}},
		{NoSystemConfig: true, Ndots: -1},
		{NoSystemConfig: true, Hosts: "/not/there"},
		{ResolvConf: "/not/there"},
	} {
		_, err := base.NewDNSBase(cfg)
		assert.Error(t, err, "%+v", cfg)
	}
	assert.ErrorIs(t, testutil.NewDNSBase(t, base, libevent.DNSConfig{
		NoSystemConfig: true, Nameservers: []string{"[::1]", "127.0.0.2", "[::1]:54"},
		Options: map[string]string{"bind-to": "127.0.0.1", "max-inflight:": "10", "randomize-case": "0"},
	}).AddNameserver("[::1]:53"), syscall.EEXIST)
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, base.Stats().DNSBases)
}

// A resolver without lookups does not keep a loop from returning, whatever the system's
// resolv.conf says.
func TestDNSDoesNotKeepTheLoop(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.NewDNSBase(t, base, libevent.DNSConfig{})
	testutil.Dispatch(t, base)
}

// When the server does not answer, the loop waits, and the lookup fails in the end.
func TestDNSNoAnswer(t *testing.T) {
	testutil.Quiet(t)
	s := newNameserver(t, nil)
	s.hush(true)
	base := testutil.NewBase(t)
	dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{
		NoSystemConfig: true, Nameservers: []string{s.addr()},
		Options: map[string]string{"timeout": "0.02", "attempts": "2"},
	})
	var cause error
	_, err := dns.Lookup("ip4", "host.test", func(_ []netip.Addr, err error) {
		cause = err
		dns.Free() // otherwise the loop would wait until the server answers again
	})
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	var e *libevent.DNSError
	require.ErrorAs(t, cause, &e)
	assert.False(t, e.IsNotFound())
	testutil.Eventually(t, func() bool { return s.wasAsked("host.test") >= 2 }, "the server has read all")
	assert.Equal(t, 2, s.wasAsked("host.test"))
}

// An answer that comes late is still used if the lookup waits for it.
func TestDNSSlowAnswer(t *testing.T) {
	s := newNameserver(t, map[string][]string{"host.test": {"192.0.2.1"}})
	s.hush(true)
	base := testutil.NewBase(t)
	dns := newDNS(t, base, s)
	testutil.Background(t, base)
	got, _ := lookUp(t, dns, "ip4", "host.test")
	testutil.Eventually(t, func() bool { return s.wasAsked("host.test") > 0 }, "the server is asked")
	assert.Empty(t, got)
	s.speak()
	assert.Equal(t, answer{[]string{"192.0.2.1"}, nil}, testutil.Receive(t, got))
}

func TestDNSCancel(t *testing.T) {
	s := newNameserver(t, map[string][]string{"host.test": {"192.0.2.1"}})
	fail := func([]netip.Addr, error) { assert.Fail(t, "called after Cancel") }

	t.Run("before the loop runs", func(t *testing.T) {
		base := testutil.NewBase(t)
		l, err := newDNS(t, base, s).Lookup("ip", "host.test", fail)
		require.NoError(t, err)
		l.Cancel()
		l.Cancel()
		testutil.Dispatch(t, base)
		assert.Zero(t, base.Stats().DNSLookups)
	})
	t.Run("with the answer queued", func(t *testing.T) {
		base := testutil.NewBase(t)
		l, err := newDNS(t, base, nil).Lookup("ip", "127.0.0.1", fail)
		require.NoError(t, err)
		l.Cancel()
		testutil.Dispatch(t, base)
	})
	t.Run("by its own closure", func(t *testing.T) {
		base := testutil.NewBase(t)
		var l *libevent.DNSLookup
		l, err := newDNS(t, base, nil).Lookup("ip", "127.0.0.1", func([]netip.Addr, error) { l.Cancel() })
		require.NoError(t, err)
		testutil.Dispatch(t, base)
	})
	t.Run("from elsewhere, at any moment", func(t *testing.T) {
		base := testutil.NewBase(t)
		dns := newDNS(t, base, s)
		testutil.Background(t, base)
		for range 200 {
			called := 0
			l, err := dns.Lookup("ip", "host.test", func([]netip.Addr, error) { called++ })
			require.NoError(t, err)
			runtime.Gosched()
			l.Cancel()
			var before, after int // a lookup that had started goes on
			testutil.OnLoop(t, base, func() { before = called })
			testutil.OnLoop(t, base, func() { after = called })
			assert.Equal(t, before, after)
		}
		testutil.Eventually(t, func() bool { return base.Stats().DNSLookups == 0 }, "all are gone")
	})
}

// Free ends lookups of every age. No closure is called after it, and nothing is left.
func TestDNSFreeWithPendingLookups(t *testing.T) {
	s := newNameserver(t, map[string][]string{"host.test": {"192.0.2.1"}})
	s.hush(true)
	start := func(t *testing.T, base *libevent.Base) *libevent.DNSBase {
		dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{
			NoSystemConfig: true, Nameservers: []string{s.addr()},
			Options: map[string]string{"max-inflight": "4"}, // the other lookups wait
		})
		for range 10 {
			_, err := dns.Lookup("ip", "host.test", func([]netip.Addr, error) { assert.Fail(t, "called after Free") })
			require.NoError(t, err)
		}
		return dns
	}
	t.Run("loop not started", func(t *testing.T) {
		base := testutil.NewBase(t)
		start(t, base).Free()
		testutil.Dispatch(t, base)
		assert.Zero(t, base.Stats().DNSBases+base.Stats().DNSLookups)
	})
	t.Run("in a closure", func(t *testing.T) {
		base := testutil.NewBase(t)
		dns := start(t, base)
		require.NoError(t, base.Post(dns.Free))
		testutil.Dispatch(t, base)
		assert.Zero(t, base.Stats().DNSBases+base.Stats().DNSLookups)
	})
	t.Run("from elsewhere", func(t *testing.T) {
		base := testutil.NewBase(t)
		dns := start(t, base)
		testutil.Background(t, base)
		testutil.OnLoop(t, base, func() {})
		dns.Free()
		testutil.Eventually(t, func() bool { return base.Stats().DNSBases+base.Stats().DNSLookups == 0 }, "all are gone")
	})
	t.Run("with the base", func(t *testing.T) {
		base, err := libevent.NewBase()
		require.NoError(t, err)
		start(t, base)
		start(t, base).Free()
		require.NoError(t, base.Loop(libevent.LoopNonblock))
		start(t, base)
		require.NoError(t, base.Free())
	})
	t.Run("by the closure of one of them", func(t *testing.T) {
		base := testutil.NewBase(t)
		dns := start(t, base)
		_, err := dns.Lookup("ip", "127.0.0.1", func([]netip.Addr, error) { dns.Free() })
		require.NoError(t, err)
		testutil.Dispatch(t, base)
	})
}

// Free may come at any moment, while answers and probes of a failed name server are under
// way.
func TestDNSFreeWhileAnswersCome(t *testing.T) {
	testutil.Quiet(t)
	s := newNameserver(t, map[string][]string{"host.test": {"192.0.2.1"}, "google.com": {"192.0.2.2"}})
	mute := newNameserver(t, nil)
	mute.hush(true)
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for i := range 100 {
		dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{
			NoSystemConfig: true, Nameservers: []string{s.addr(), mute.addr()},
			Options: map[string]string{
				"timeout": "0.001", "attempts": "1", "max-timeouts": "1", "initial-probe-timeout": "0.001", "max-inflight": "4",
			},
		})
		var got <-chan answer
		for range 20 {
			got, _ = lookUp(t, dns, "ip4", "host.test")
		}
		if i%2 == 0 {
			testutil.Receive(t, got)
		}
		if i%3 == 0 {
			require.NoError(t, dns.ClearNameservers())
			require.NoError(t, dns.AddNameserver(s.addr()))
			require.NoError(t, dns.Resume())
		}
		dns.Free()
	}
	testutil.Eventually(t, func() bool { return base.Stats().DNSBases+base.Stats().DNSLookups == 0 }, "all are gone")
}

// Libevent probes a name server that has failed, and the answer to the probe refers to the
// name server. Libevent does not keep the name server alive until then, so the binding has
// to. (An address sanitizer sees it in libevent.)
func TestDNSFreeWithAnswerOfProbeQueued(t *testing.T) {
	testutil.Quiet(t)
	for name, end := range map[string]func(*libevent.DNSBase) error{
		"Free":             func(dns *libevent.DNSBase) error { dns.Free(); return nil },
		"ClearNameservers": (*libevent.DNSBase).ClearNameservers,
	} {
		t.Run(name, func(t *testing.T) {
			s := newNameserver(t, map[string][]string{"google.com": {"192.0.2.1"}})
			s.hush(true)
			base := testutil.NewBase(t)
			dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{
				NoSystemConfig: true, Nameservers: []string{s.addr()},
				Options: map[string]string{"timeout": "0.01", "attempts": "1", "initial-probe-timeout": "0.001"},
			})
			_, err := dns.Lookup("ip4", "host.test", func([]netip.Addr, error) {
				assert.NoError(t, dns.SetOption("timeout", "30"))
			})
			require.NoError(t, err)
			testutil.Eventually(t, func() bool {
				assert.NoError(t, base.Loop(libevent.LoopNonblock))
				return s.wasAsked("google.com") > 0
			}, "the probe")
			// In the next turn the loop first reads the answer, and then calls this timer.
			timer, err := base.NewTimer(func() { assert.NoError(t, end(dns)) })
			require.NoError(t, err)
			require.NoError(t, base.Post(func() {
				if name == "Free" {
					dns.Free()
				}
				assert.NoError(t, timer.Add(0))
				s.speak()
			}))
			testutil.Dispatch(t, base)
			assert.Empty(t, dns.Nameservers())
		})
	}
}

func TestDNSClearNameservers(t *testing.T) {
	mute := newNameserver(t, nil)
	mute.hush(true)
	s := newNameserver(t, map[string][]string{"host.test": {"192.0.2.1"}, "later.test": {"192.0.2.2"}})
	base := testutil.NewBase(t)
	dns := newDNS(t, base, mute)
	testutil.Background(t, base)
	waits, _ := lookUp(t, dns, "ip4", "host.test")
	testutil.Eventually(t, func() bool { return mute.wasAsked("host.test") > 0 }, "the server is asked")

	require.NoError(t, dns.ClearNameservers())
	later, _ := lookUp(t, dns, "ip4", "later.test")
	testutil.Eventually(t, func() bool { return len(dns.Nameservers()) == 0 }, "the server is taken away")
	require.NoError(t, dns.AddNameserver(s.addr()))
	assert.Empty(t, waits)
	assert.Empty(t, later)
	require.NoError(t, dns.Resume())
	assert.Equal(t, answer{[]string{"192.0.2.1"}, nil}, testutil.Receive(t, waits))
	assert.Equal(t, answer{[]string{"192.0.2.2"}, nil}, testutil.Receive(t, later))

	// All at once, also on the loop, several times.
	again, _ := lookUp(t, dns, "ip4", "host.test")
	testutil.OnLoop(t, base, func() {
		for range 3 {
			assert.NoError(t, dns.ClearNameservers())
			assert.NoError(t, dns.AddNameserver(s.addr()))
		}
		assert.NoError(t, dns.Resume())
	})
	assert.Equal(t, answer{[]string{"192.0.2.1"}, nil}, testutil.Receive(t, again))
	require.Len(t, dns.Nameservers(), 1)
	assert.Equal(t, s.addr(), dns.Nameservers()[0].String())
}

// Many goroutines look names up while others change the settings.
func TestDNSFromManyGoroutines(t *testing.T) {
	s := newNameserver(t, map[string][]string{"host.test": {"192.0.2.1", "2001:db8::1"}})
	base := testutil.NewBase(t)
	dns := newDNS(t, base, s)
	testutil.Background(t, base)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				got := make(chan error, 1)
				_, err := dns.Lookup("ip", "host.test", func(addrs []netip.Addr, err error) {
					assert.Len(t, addrs, 2)
					got <- err
				})
				assert.NoError(t, err)
				assert.NoError(t, dns.SetOption("max-inflight", fmt.Sprint(i%5+1)))
				assert.NoError(t, dns.SetNdots(i%3))
				assert.NotEmpty(t, dns.Nameservers())
				select {
				case err := <-got:
					assert.NoError(t, err)
				case <-time.After(testutil.Patience):
					assert.Fail(t, "no answer")
					return
				}
			}
		})
	}
	wg.Wait()
}
