// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// DNSConfig says which files and name servers NewDNSBase uses. The zero value means
// /etc/resolv.conf, with its name servers, and /etc/hosts.
type DNSConfig struct {
	// NoSystemConfig makes NewDNSBase ignore /etc/resolv.conf and /etc/hosts.
	NoSystemConfig bool
	// ResolvConf is a file to use instead of /etc/resolv.conf.
	ResolvConf string
	// Hosts is a file to use instead of /etc/hosts.
	Hosts string
	// Nameservers are used in addition to those of resolv.conf. Each is an IP
	// address, with a port if it is not 53.
	Nameservers []string
	// Options are set as by SetOption. They have precedence over those of
	// resolv.conf.
	Options map[string]string
	// Search lists domains to look names up in, instead of those of resolv.conf. nil
	// means those of resolv.conf.
	Search []string
	// Ndots is set as by SetNdots. 0 leaves the number of resolv.conf, or 1 if that has
	// none or if Search is set.
	Ndots int
}

// DNSBase is libevent's resolver, evdns. It looks host names up and never blocks the
// loop. Its methods are safe for concurrent use.
//
// It asks over UDP; libevent 2.2 asks again over TCP if an answer was truncated. It caches
// nothing. Without lookups to wait for, it does not keep the loop running, with one
// exception: after a name server has failed, libevent asks it for google.com from time to
// time, to see whether it works again (option "initial-probe-timeout"), and Dispatch does
// not return before that.
type DNSBase struct {
	object
	c *C.struct_glev_dns

	mu        sync.Mutex
	lookups   map[*DNSLookup]struct{} // nil after Free
	clearing  bool
	postponed []func() (done bool) // what to do when the clearing is done
}

// NewDNSBase makes a resolver, which lives on this base and calls its closures there. A file
// of cfg that cannot be read is an error; a system without /etc/resolv.conf or /etc/hosts is
// not.
// Wraps evdns_base_new.
func (b *Base) NewDNSBase(cfg DNSConfig) (*DNSBase, error) {
	const op = "evdns_base_new"
	if err := b.enterAlive(op); err != nil {
		return nil, err
	}
	defer b.leave()
	d := &DNSBase{
		object:  object{base: b, kind: kindDNSBase},
		lookups: map[*DNSLookup]struct{}{},
	}
	d.handle = newHandle(d)
	d.c = C.glev_dns_new(b.c, d.handle.forC())
	if d.c == nil {
		d.handle.release()
		return nil, &Error{Op: op, Err: syscall.ENOMEM}
	}
	d.native = unsafe.Pointer(d.c)
	d.free = func() { C.glev_dns_free(d.c) }
	b.register(&d.object, d)
	if err := d.configure(cfg); err != nil {
		d.Free()
		return nil, err
	}
	return d, nil
}

func (d *DNSBase) configure(cfg DNSConfig) error {
	const systemResolvConf = "/etc/resolv.conf"
	options := DNSSearch | DNSNameservers | DNSMisc
	if len(cfg.Nameservers) > 0 {
		options |= DNSNameserversNoDefault
	}
	if cfg.Hosts == "" && !cfg.NoSystemConfig {
		options |= DNSHostsFile
	}
	// The options come first, because some of them are for name servers that are
	// added later, and once more at the end, because resolv.conf has options, too.
	if err := d.setOptions(cfg.Options); err != nil {
		return err
	}
	if cfg.ResolvConf != "" {
		if err := d.ParseResolvConf(cfg.ResolvConf, options); err != nil {
			return err
		}
	} else if !cfg.NoSystemConfig {
		// On a system without that file the name server is on 127.0.0.1.
		_ = d.parseResolvConf(systemResolvConf, options)
	}
	if cfg.Hosts != "" {
		if err := d.LoadHosts(cfg.Hosts); err != nil {
			return err
		}
	}
	for _, addr := range cfg.Nameservers {
		if err := d.AddNameserver(addr); err != nil {
			return err
		}
	}
	if cfg.Search != nil {
		if err := d.ClearSearch(); err != nil {
			return err
		}
		for _, domain := range slices.Backward(cfg.Search) {
			if err := d.AddSearch(domain); err != nil {
				return err
			}
		}
	}
	if err := d.setOptions(cfg.Options); err != nil {
		return err
	}
	if cfg.Ndots != 0 {
		return d.SetNdots(cfg.Ndots)
	}
	return nil
}

func (d *DNSBase) setOptions(options map[string]string) error {
	for name, value := range options {
		if err := d.SetOption(name, value); err != nil {
			return err
		}
	}
	return nil
}

// --- settings ------------------------------------------------------------------

// AddNameserver adds a name server: an IP address, with a port if it is not 53. If the
// resolver has it already, the error matches syscall.EEXIST.
// Wraps evdns_base_nameserver_sockaddr_add.
func (d *DNSBase) AddNameserver(addr string) error {
	const op = "evdns_base_nameserver_sockaddr_add"
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		ip, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if err != nil {
			return badArgument(op, "addr: %v", err)
		}
		ap = netip.AddrPortFrom(ip, 53)
	}
	if ap.Port() == 0 {
		return badArgument(op, "addr %q has port 0", addr)
	}
	a, err := ipAddr(ap.Addr().Unmap(), int(ap.Port()))
	if err != nil {
		return badArgument(op, "addr: %v", err)
	}
	return d.set(op, func() C.int { return C.glev_dns_add_nameserver(d.c, &a) })
}

// Nameservers returns the addresses of the name servers, in no particular order.
// Wraps evdns_base_get_nameserver_addr.
func (d *DNSBase) Nameservers() []net.Addr {
	if !d.enter() {
		return nil
	}
	defer d.leave()
	var addrs []net.Addr
	var a C.struct_glev_addr
	for i := C.int(0); C.glev_dns_nameserver(d.c, i, &a) != 0; i++ {
		addrs = append(addrs, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netIP(&a), uint16(a.port))))
	}
	return addrs
}

// ClearNameservers removes all name servers. Lookups that have no answer yet, and later
// ones, wait until name servers have been added and Resume is called; then they are asked.
// ClearNameservers may take effect only when the loop has nothing else to do. Until then
// AddNameserver, ParseResolvConf, Resume and the other settings are postponed too: they
// return at once, and report only errors that are known by then.
// Wraps evdns_base_clear_nameservers_and_suspend.
func (d *DNSBase) ClearNameservers() error {
	if err := d.enterAlive("evdns_base_clear_nameservers_and_suspend"); err != nil {
		return err
	}
	clearNow := func() (done bool) { return C.glev_dns_clear(d.c) != 0 }
	d.mu.Lock()
	wait := d.clearing
	if wait {
		d.postponed = append(d.postponed, clearNow)
	}
	d.clearing = true
	d.mu.Unlock()
	if wait {
		d.leave()
		return nil
	}
	d.leaveAtLoop(func() {
		if clearNow() {
			d.cleared()
		}
	})
	return nil
}

// cleared does what has been postponed until the name servers were cleared.
func (d *DNSBase) cleared() {
	for done := true; done; {
		d.mu.Lock()
		d.clearing = len(d.postponed) > 0
		if !d.clearing {
			d.mu.Unlock()
			return
		}
		next := d.postponed[0]
		d.postponed = d.postponed[1:]
		d.mu.Unlock()
		done = next()
	}
}

// postpone keeps fn for later while the name servers are being cleared. It returns
// false if they are not.
func (d *DNSBase) postpone(fn func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.clearing {
		d.postponed = append(d.postponed, func() bool { fn(); return true })
	}
	return d.clearing
}

// Resume asks the name servers for the lookups that have waited since ClearNameservers.
// Wraps evdns_base_resume.
func (d *DNSBase) Resume() error {
	if err := d.enterAlive("evdns_base_resume"); err != nil {
		return err
	}
	resume := func() { C.evdns_base_resume(d.c.evdns) }
	if d.postpone(resume) {
		d.leave()
	} else {
		d.leaveAtLoop(resume)
	}
	return nil
}

// ParseResolvConf reads a file in the format of resolv.conf. It adds the name servers
// to those that are there, and replaces the search domains.
// Wraps evdns_base_resolv_conf_parse.
func (d *DNSBase) ParseResolvConf(path string, what DNSOptions) error {
	const op = "evdns_base_resolv_conf_parse"
	if unknown := what &^ (DNSAll | DNSNameserversNoDefault); unknown != 0 {
		return badArgument(op, "what: unknown bits %v", unknown)
	}
	if err := readable(op, path); err != nil {
		return err
	}
	return d.parseResolvConf(path, what)
}

func (d *DNSBase) parseResolvConf(path string, what DNSOptions) error {
	return d.set("evdns_base_resolv_conf_parse", func() C.int {
		return C.glev_dns_resolv_conf(d.c, C.int(what), cString(path))
	})
}

// readable returns why a file cannot be read. libevent does not report that, and makes
// up settings if the file does not exist.
func readable(op, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return &Error{Op: op, Err: err}
	}
	return f.Close()
}

// LoadHosts adds the names and addresses of a file in the format of /etc/hosts. No name
// server is asked for a name that is in it.
// Wraps evdns_base_load_hosts.
func (d *DNSBase) LoadHosts(path string) error {
	const op = "evdns_base_load_hosts"
	if err := readable(op, path); err != nil {
		return err
	}
	return d.set(op, func() C.int {
		return failed(C.evdns_base_load_hosts(d.c.evdns, cString(path)))
	})
}

// ClearHosts forgets the names of hosts files.
// Wraps evdns_base_clear_host_addresses.
func (d *DNSBase) ClearHosts() error {
	return d.set("evdns_base_clear_host_addresses", func() C.int {
		C.evdns_base_clear_host_addresses(d.c.evdns)
		return 0
	})
}

// AddSearch adds a search domain, which is tried before those that were added earlier. A
// name with fewer dots than SetNdots says is looked up in the search domains first and then
// as it is. Any other name is looked up as it is first.
// Wraps evdns_base_search_add.
func (d *DNSBase) AddSearch(domain string) error {
	const op = "evdns_base_search_add"
	if err := checkName(op, "domain", strings.TrimPrefix(domain, ".")); err != nil {
		return err
	}
	return d.set(op, func() C.int {
		C.evdns_base_search_add(d.c.evdns, cString(domain))
		return 0
	})
}

// ClearSearch removes all search domains, and resets the number of SetNdots to 1.
// Wraps evdns_base_search_clear.
func (d *DNSBase) ClearSearch() error {
	return d.set("evdns_base_search_clear", func() C.int {
		C.evdns_base_search_clear(d.c.evdns)
		return 0
	})
}

// SetNdots sets how many dots a name must have to be looked up as it is before it is looked
// up in the search domains: 0 to 255.
// Wraps evdns_base_search_ndots_set.
func (d *DNSBase) SetNdots(n int) error {
	const op, most = "evdns_base_search_ndots_set", 255
	if n < 0 || n > most {
		return badArgument(op, "n is %d, not 0 to %d", n, most)
	}
	return d.set(op, func() C.int {
		C.evdns_base_search_ndots_set(d.c.evdns, C.int(n))
		return 0
	})
}

// dnsOptions are the options of libevent 2.1, which reports no error for an unknown
// one.
var dnsOptions = []string{
	"ndots", "timeout", "getaddrinfo-allow-skew", "max-timeouts", "max-inflight", "attempts",
	"randomize-case", "bind-to", "initial-probe-timeout", "so-rcvbuf", "so-sndbuf",
}

// SetOption sets an option of resolv.conf, or one of libevent's own, by name: "timeout"
// (seconds to wait for an answer, may have a fraction), "attempts" (how often to ask),
// "max-timeouts", "max-inflight", "ndots", "randomize-case", "bind-to",
// "initial-probe-timeout", "getaddrinfo-allow-skew", "so-rcvbuf", "so-sndbuf". "bind-to",
// "so-rcvbuf" and "so-sndbuf" have an effect on name servers that are added later.
// Wraps evdns_base_set_option.
func (d *DNSBase) SetOption(name, value string) error {
	const op = "evdns_base_set_option"
	name = strings.TrimSuffix(name, ":")
	if !slices.Contains(dnsOptions, name) {
		return badArgument(op, "name is %q, not one of %q", name, dnsOptions)
	}
	if value == "" || strings.IndexByte(value, 0) >= 0 {
		return badArgument(op, "value of %s is %q", name, value)
	}
	if number, err := strconv.ParseFloat(value, 64); name != "bind-to" && (err != nil || number < 0 || number > 1<<30) {
		return badArgument(op, "value of %s is %q, not a number in range", name, value)
	}
	rc := C.int(0)
	err := d.set(op, func() C.int {
		rc = C.evdns_base_set_option(d.c.evdns, cString(name+":"), cString(value))
		return 0
	})
	if err == nil && rc != 0 {
		return badArgument(op, "value of %s is %q", name, value)
	}
	return err
}

// checkName refuses a name that cannot be sent, or that would be sent as another one.
func checkName(op, arg, name string) error {
	trimmed := strings.TrimSuffix(name, ".")
	if len(trimmed) == 0 || len(trimmed) > 253 || strings.IndexByte(name, 0) >= 0 {
		return badArgument(op, "%s is %q", arg, name)
	}
	for label := range strings.SplitSeq(trimmed, ".") {
		if len(label) == 0 || len(label) > 63 {
			return badArgument(op, "%s is %q", arg, name)
		}
	}
	return nil
}

// set changes a setting, now or when the name servers have been cleared.
func (d *DNSBase) set(op string, call func() C.int) error {
	if err := d.enterAlive(op); err != nil {
		return err
	}
	defer d.leave()
	if d.postpone(func() { call() }) {
		return nil
	}
	_, err := result(op, C.int64_t(call()))
	return err
}

// failed turns the -1 of libevent into the form of a result.
func failed(rc C.int) C.int {
	if rc != 0 {
		return -C.EIO
	}
	return 0
}

// Free frees the resolver. The closures of lookups that wait for an answer are not
// called. Bufferevents that ConnectHostname is connecting get EventError, with
// ErrClosed as the cause.
// Wraps evdns_base_free.
func (d *DNSBase) Free() {
	if !d.close() {
		return
	}
	d.mu.Lock()
	lookups := d.lookups
	d.lookups = nil
	d.mu.Unlock()
	for l := range lookups {
		if l.close() {
			if l.internal {
				l.fn(nil, &Error{Op: opLookup, Err: ErrClosed})
			}
			l.leave()
		}
	}
	d.leave()
}

// --- lookups -----------------------------------------------------------------------

// DNSLookup is a lookup that waits for its answer. Its methods are safe for concurrent
// use.
type DNSLookup struct {
	object
	c    *C.struct_glev_lookup
	dns  *DNSBase
	host string
	fn   func([]netip.Addr, error)
	// internal says that fn is the binding's own. It may be called on any
	// goroutine, and it is also called when the DNSBase is freed.
	internal bool
}

const opLookup = "lookup"

var families = map[string]C.int{"ip": C.AF_UNSPEC, "ip4": C.AF_INET, "ip6": C.AF_INET6}

// Lookup looks a host name up and returns at once. The loop calls fn on its goroutine, with
// the addresses or with an error, even if the answer is known at once. network is "ip" for
// both kinds of addresses, the IPv4 addresses first, or "ip4" or "ip6". host may be an IP
// address. Dispatch does not return before fn has been called, even if no events are left.
// If the lookup fails, the error is an *Error with a *DNSError.
// Wraps evdns_getaddrinfo.
func (d *DNSBase) Lookup(network, host string, fn func([]netip.Addr, error)) (*DNSLookup, error) {
	const op = "evdns_getaddrinfo"
	family, ok := families[network]
	if !ok {
		return nil, badArgument(op, "%v", net.UnknownNetworkError(network))
	}
	if fn == nil {
		return nil, badArgument(op, "fn is nil")
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if err := checkName(op, "host", host); err != nil {
			return nil, err
		}
	}
	return d.lookup(op, host, family, fn, false)
}

func (d *DNSBase) lookup(op, host string, family C.int, fn func([]netip.Addr, error), internal bool) (*DNSLookup, error) {
	if err := d.base.enterAlive(op); err != nil {
		return nil, err
	}
	defer d.base.leave()
	if !d.enter() {
		return nil, ErrClosed
	}
	defer d.leave()
	l := &DNSLookup{
		object: object{base: d.base, kind: kindDNSLookup},
		dns:    d, host: host, fn: fn, internal: internal,
	}
	l.handle = newHandle(l)
	l.c = C.glev_lookup_new(d.c, cString(host), family, l.handle.forC())
	if l.c == nil {
		l.handle.release()
		return nil, &Error{Op: op, Err: syscall.ENOMEM}
	}
	l.native = unsafe.Pointer(l.c)
	l.free = func() { C.glev_lookup_free(l.c) }
	d.base.register(&l.object, freer(l.Cancel))
	d.base.keep(1)
	l.enter()
	d.mu.Lock()
	closed := d.lookups == nil
	if !closed {
		d.lookups[l] = struct{}{}
	}
	d.mu.Unlock()
	if closed { // Free has run since d was entered
		l.Cancel()
	}
	l.leaveAtLoop(func() {
		if l.isOpen() {
			C.glev_lookup_start(l.c)
		}
	})
	if closed {
		return nil, ErrClosed
	}
	return l, nil
}

// Cancel ends the lookup. After it has returned fn is not called.
// Wraps evdns_getaddrinfo_cancel.
func (l *DNSLookup) Cancel() {
	if l.close() {
		l.leave()
	}
}

// close is that of usage, and takes the lookup off its DNSBase. After true the caller
// leaves.
func (l *DNSLookup) close() bool {
	if !l.usage.close() {
		return false
	}
	l.base.keep(-1)
	l.dns.mu.Lock()
	delete(l.dns.lookups, l)
	l.dns.mu.Unlock()
	return true
}

// answered is called on the loop's thread, or the thread that acts as it. fn runs in
// the next turn.
func (l *DNSLookup) answered(code int, answer []C.struct_glev_addr) {
	var addrs []netip.Addr
	for i := range answer {
		addrs = append(addrs, netIP(&answer[i]))
	}
	if code == 0 && len(addrs) == 0 {
		// The name is in a hosts file, but with no address of that family.
		code = C.EVUTIL_EAI_NODATA
	}
	var err error
	if code != 0 {
		addrs, err = nil, &Error{Op: opLookup, Err: &DNSError{l.host, code}}
	}
	l.base.enqueue(task{run: func() { l.deliver(addrs, err) }})
}

// deliver runs fn, unless the lookup was cancelled. The lookup has been entered.
func (l *DNSLookup) deliver(addrs []netip.Addr, err error) {
	if !l.close() {
		l.leave()
		return
	}
	l.leave() // what answered entered; ran leaves what close entered
	returned := false
	defer l.ran(&returned)
	if !l.internal {
		l.base.count()
	}
	l.fn(addrs, err)
	returned = true
}

// freer is what a base calls to free an object whose own method has another name.
type freer func()

func (f freer) Free() { f() }

// DNSError says why evdns has no address for a host name. libevent reports few details: the
// code is EAI_FAIL if a name server does not answer, refuses or fails, and also if a name has
// addresses, but none of the kind that was looked for. Its methods are safe for concurrent
// use.
type DNSError struct {
	Host string
	Code int // EVUTIL_EAI_...
}

// Error returns the name and the text of evutil_gai_strerror.
func (e *DNSError) Error() string {
	return "lookup " + e.Host + ": " + C.GoString(C.evutil_gai_strerror(C.int(e.Code)))
}

// IsNotFound reports whether the name does not exist, or has no address of the kind that was
// looked for.
func (e *DNSError) IsNotFound() bool {
	return e.Code == C.EVUTIL_EAI_NONAME || e.Code == C.EVUTIL_EAI_NODATA || e.Code == C.EVUTIL_EAI_ADDRFAMILY
}

// Temporary reports whether the same lookup may succeed later.
func (e *DNSError) Temporary() bool { return e.Code == C.EVUTIL_EAI_AGAIN }
