// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// records makes the records that a client of TLS 1.3 sends after its handshake, with
// TLS_AES_128_GCM_SHA256. The client itself sends none then.
type records struct {
	t      testing.TB
	secret []byte
	number byte
}

func newRecords(t testing.TB, keyLog string) *records {
	_, line, found := strings.Cut(keyLog, "CLIENT_TRAFFIC_SECRET_0 ")
	assert.True(t, found)
	return recordsOf(t, line)
}

// recordsOf takes a line of a key log without its label.
func recordsOf(t testing.TB, line string) *records {
	secret, err := hex.DecodeString(strings.Fields(line)[1])
	assert.NoError(t, err)
	return &records{t: t, secret: secret}
}

func (r *records) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, r.secret, string(append(info, 0)), n)
	assert.NoError(r.t, err)
	return out
}

// next has what encrypts or decrypts the next record.
func (r *records) next() (aead cipher.AEAD, nonce []byte) {
	block, err := aes.NewCipher(r.expand("key", 16))
	assert.NoError(r.t, err)
	aead, err = cipher.NewGCM(block)
	assert.NoError(r.t, err)
	nonce = r.expand("iv", 12)
	nonce[11] ^= r.number
	r.number++
	return aead, nonce
}

// open returns the payload of a record.
func (r *records) open(record []byte) []byte {
	aead, nonce := r.next()
	payload, err := aead.Open(nil, nonce, record[5:], record[:5])
	assert.NoError(r.t, err)
	return bytes.TrimRight(payload, "\x00")[:len(payload)-1]
}

func (r *records) record(kind byte, payload []byte) []byte {
	aead, nonce := r.next()
	payload = append(bytes.Clone(payload), kind)
	n := len(payload) + aead.Overhead()
	header := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return aead.Seal(bytes.Clone(header), nonce, payload, header)
}

func (r *records) data(text string) []byte { return r.record(23, []byte(text)) }

// keyUpdate may also request a KeyUpdate of the peer.
func (r *records) keyUpdate(requests bool) []byte {
	message := []byte{24, 0, 0, 1, 0}
	if requests {
		message[4] = 1
	}
	out := r.record(22, message)
	r.secret, r.number = r.expand("traffic upd", 32), 0
	return out
}

// keyUpdateInParts makes two records of one message. After the first OpenSSL waits for the second.
func (r *records) keyUpdateInParts() (first, second []byte) {
	message := []byte{24, 0, 0, 1, 0}
	first, second = r.record(22, message[:4]), r.record(22, message[4:])
	r.secret, r.number = r.expand("traffic upd", 32), 0
	return first, second
}

// modes13 calls test, in all modes, with a connection of TLS 1.3 that is open, and the records of its client.
func modes13(t *testing.T, test func(t *testing.T, o *offender, r *records, read <-chan string, events <-chan told)) {
	var keyLog bytes.Buffer
	modes(t, &tls.Config{KeyLogWriter: &keyLog, MinVersion: tls.VersionTLS13}, func(t *testing.T, o *offender) {
		keyLog.Reset()
		testutil.Background(t, o.base)
		read, events := watch(t, o.conn)
		require.NoError(t, o.peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		r := newRecords(t, keyLog.String())
		test(t, o, r, read, events)
	})
}

// partly calls test, in all modes, when the server has read the first part of a KeyUpdate.
func partly(t *testing.T, test func(t *testing.T, o *offender, send func(...[]byte), second []byte, r *records, read <-chan string, events <-chan told)) {
	modes13(t, func(t *testing.T, o *offender, r *records, read <-chan string, events <-chan told) {
		send := func(records ...[]byte) {
			_, err := o.socket.Write(bytes.Join(records, nil))
			require.NoError(t, err)
		}
		before := r.data("before")
		first, second := r.keyUpdateInParts()
		send(before, first)
		assert.Equal(t, "before", testutil.Receive(t, read))
		for range 3 {
			testutil.OnLoop(t, o.base, func() {}) // the loop reads what is left
		}
		test(t, o, send, second, r, read, events)
	})
}

// As long as a message has come in part, OpenSSL does not write. The server does not try again and
// again: if it has something to write, the connection ends. The loop goes on, also if the output is
// taken back before the rest comes.
func TestWriteInTheMiddleOfAMessage(t *testing.T) {
	partly(t, func(t *testing.T, o *offender, send func(...[]byte), second []byte, r *records, _ <-chan string, events <-chan told) {
		halts(t, o, events)
		_ = o.conn.Output().Drain(o.conn.Output().Len())
		require.NoError(t, o.conn.Enable(rd|wr))
		send(second, r.data("after"))
		for range 3 {
			testutil.OnLoop(t, o.base, func() {})
		}
		assert.Empty(t, events)
	})
}

// Before TLS 1.3 a request for a renegotiation is such a message, also if it will be refused.
func TestWriteInTheMiddleOfARequest(t *testing.T) {
	modes12(t, func(t *testing.T, o *offender, r *records12, read <-chan string, events <-chan told) {
		request := []byte{1, 0, 0, 1, 0}
		_, err := o.socket.Write(append(r.record(23, []byte("before")), r.record(22, request[:4])...))
		require.NoError(t, err)
		assert.Equal(t, "before", testutil.Receive(t, read))
		for range 3 {
			testutil.OnLoop(t, o.base, func() {}) // the loop reads what is left
		}
		halts(t, o, events)
		_ = o.conn.Output().Drain(o.conn.Output().Len())
		_, err = o.socket.Write(r.record(22, request[4:]))
		require.NoError(t, err)
		testutil.OnLoop(t, o.base, func() {})
	})
}

// halts writes in the middle of a message, and the connection ends.
func halts(t *testing.T, o *offender, events <-chan told) {
	t.Helper()
	_, err := o.conn.WriteString("an answer")
	require.NoError(t, err)
	what := testutil.Receive(t, events)
	assert.Equal(t, libevent.EventWriting|libevent.EventError, what.what)
	assert.ErrorContains(t, what.err, "only a part of a handshake message")
	assert.Zero(t, o.conn.Enabled())
}

// A message in two records is as good as in one, if there is nothing to write meanwhile.
func TestMessageInTwoRecords(t *testing.T) {
	partly(t, func(t *testing.T, o *offender, send func(...[]byte), second []byte, r *records, read <-chan string, events <-chan told) {
		send(second, r.data("after"))
		assert.Equal(t, "after", testutil.Receive(t, read))
		_, err := o.conn.WriteString("an answer")
		require.NoError(t, err)
		answer := make([]byte, 9)
		_, err = io.ReadFull(o.peer, answer)
		require.NoError(t, err)
		assert.Equal(t, "an answer", string(answer))
		assert.Empty(t, events)
	})
}

// The records of a message do not count, but the message.
func TestMessagesInTwoRecords(t *testing.T) {
	modes13(t, func(t *testing.T, o *offender, r *records, read <-chan string, events <-chan told) {
		var all []byte
		for range 16 {
			first, second := r.keyUpdateInParts()
			all = slices.Concat(all, first, second)
		}
		_, err := o.socket.Write(append(all, r.data("after")...))
		require.NoError(t, err)
		assert.Equal(t, "after", testutil.Receive(t, read))
		assert.Empty(t, events)
	})
}

// The end waits for the rest of the message.
func TestCloseWriteInTheMiddleOfAMessage(t *testing.T) {
	partly(t, func(t *testing.T, o *offender, send func(...[]byte), second []byte, _ *records, _ <-chan string, events <-chan told) {
		require.NoError(t, o.conn.CloseWrite())
		send(second)
		_, err := o.peer.Read(make([]byte, 1))
		assert.Equal(t, io.EOF, err)
		assert.Empty(t, events)
	})
}

// A peer that sends record after record without data is cut off.
func TestFloodOfKeyUpdates(t *testing.T) {
	var keyLog bytes.Buffer
	cfg := &tls.Config{KeyLogWriter: &keyLog, MinVersion: tls.VersionTLS13}
	modes(t, cfg, func(t *testing.T, o *offender) {
		keyLog.Reset()
		testutil.Background(t, o.base)
		read, events := watch(t, o.conn)
		require.NoError(t, o.peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		r := newRecords(t, keyLog.String())
		send := func(n int) {
			var all []byte
			for range n {
				all = append(all, r.keyUpdate(true)...)
			}
			_, err := o.socket.Write(append(all, r.data("x")...))
			require.NoError(t, err)
		}
		send(16)
		assert.Equal(t, "x", testutil.Receive(t, read))
		send(10)
		assert.Equal(t, "x", testutil.Receive(t, read))
		send(17)
		what := testutil.Receive(t, events)
		assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
		assert.ErrorContains(t, what.err, "too many non-advancing records")
		assert.Zero(t, o.conn.Enabled())
	})
}

// A KeyUpdate is to be answered while the socket is full, and then a limit stops the reading. The
// loop goes on.
func TestAnswerToAKeyUpdateDoesNotStopTheLoop(t *testing.T) {
	ca := newAuthority(t)
	var keyLog bytes.Buffer
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}})
	a, b := testutil.Socketpair(t)
	conn, err := ctx.NewSocket(base, a, libevent.OptCloseOnFree|libevent.OptPlainIO)
	require.NoError(t, err)
	read, events := watch(t, conn)
	socket := fileConn(t, b)
	require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", KeyLogWriter: &keyLog}).Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	require.NoError(t, conn.SetRateLimit(&libevent.RateLimit{ReadRate: 1 << 20, Tick: time.Hour}))

	r := newRecords(t, keyLog.String())
	send := func(p []byte) {
		_, err := socket.Write(p)
		require.NoError(t, err)
	}
	// The bytes that fill the socket belong to no record, but the peer does not look at them.
	testutil.OnLoop(t, base, func() { fill(t, a) })
	send(append(r.keyUpdate(true), r.data("after")...))
	assert.Equal(t, "after", testutil.Receive(t, read))
	send(r.keyUpdate(true))
	_, err = conn.WriteString("answer")
	require.NoError(t, err)
	send(r.keyUpdate(true))
	for range 3 {
		testutil.OnLoop(t, base, func() {}) // it comes, and the loop tries to write
	}
	require.NoError(t, conn.TakeReadLimit(2<<20))
	go func() { _ = testutil.ReadAll(socket) }()
	testutil.Eventually(t, func() bool { return conn.Output().Len() == 0 }, "the answer is written")
	testutil.OnLoop(t, base, func() {})
	conn.Free()
}

// While the output is lent, no record of it can be put aside for the answers to KeyUpdates.
func TestKeyUpdatesWhileTheOutputIsLent(t *testing.T) {
	var keyLog bytes.Buffer
	modes(t, &tls.Config{KeyLogWriter: &keyLog, MinVersion: tls.VersionTLS13}, func(t *testing.T, o *offender) {
		if o.conn.Underlying() != nil { // no call of the user reads there
			return
		}
		keyLog.Reset()
		require.NoError(t, o.conn.SetReceiver(func(b *libevent.BufferEvent) {
			_ = b.Output().Reserve(1000, func(spans [][]byte) int {
				_, _ = b.Receive(spans[0])
				return 0
			})
		}))
		testutil.Background(t, o.base)
		_, events := watch(t, o.conn)
		require.NoError(t, o.peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		r := newRecords(t, keyLog.String())
		require.NoError(t, syscall.SetsockoptInt(o.conn.FD(), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
		noise := testutil.Noise(1 << 20)
		_, err := o.conn.Write(noise)
		require.NoError(t, err)
		takesNoMore(t, o.conn.BufferEvent)
		for range 5 {
			_, err = o.socket.Write(append(r.keyUpdate(true), r.data("x")...))
			require.NoError(t, err)
		}
		testutil.Eventually(t, func() bool { return !readable(o.conn.FD()) }, "they are read")
		testutil.OnLoop(t, o.base, func() { // there the output is not lent
			_, err := o.conn.WriteString("the end")
			assert.NoError(t, err)
		})
		reads(t, o.peer, string(noise)+"the end")
		assert.Empty(t, events)
	})
}

// A filter writes a long piece, and some of its records are put aside for the answers to KeyUpdates. They do not count for
// all of the piece.
func TestKeyUpdatesInALongWriteOfAFilter(t *testing.T) {
	ca := newAuthority(t)
	var keyLog bytes.Buffer
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}})
	a, b := testutil.Socketpair(t)
	conn := newConn(t, ctx, newLoop(t), a, true)
	require.NoError(t, conn.Underlying().SetWatermark(wr, 0, 256<<10))
	read, events := watch(t, conn)
	socket := fileConn(t, b)
	peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", KeyLogWriter: &keyLog})
	require.NoError(t, peer.Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	r := newRecords(t, keyLog.String())
	noise := testutil.Noise(2 << 20)
	testutil.OnLoop(t, conn.Base(), func() {
		_, err := conn.Write(noise)
		assert.NoError(t, err)
	})
	got := make([]byte, len(noise))
	from := 0
	for range 3 {
		takesNoMore(t, conn.Underlying())
		all := append(r.keyUpdate(true), r.data("x")...)
		all = append(append(all, r.keyUpdate(false)...), r.data("y")...)
		_, err := socket.Write(all)
		require.NoError(t, err)
		assert.Equal(t, "xy", take(t, read, 2))
		_, err = io.ReadFull(peer, got[from:from+(500<<10)])
		require.NoError(t, err)
		from += 500 << 10
	}
	_, err := io.ReadFull(peer, got[from:])
	require.NoError(t, err)
	testutil.Same(t, noise, got)
	assert.Empty(t, events)
	conn.Free()
}

// close_notify waits for room in the socket, and what is answered meanwhile does not get in its way.
func TestKeyUpdatesWhileCloseNotifyWaits(t *testing.T) {
	modes13(t, func(t *testing.T, o *offender, r *records, read <-chan string, events <-chan told) {
		says := func(text string) {
			_, err := o.socket.Write(append(r.keyUpdate(true), r.data(text)...))
			require.NoError(t, err)
			assert.Equal(t, text, testutil.Receive(t, read))
		}
		says("before")
		// The bytes that fill the socket belong to no record, but the peer does not look at them.
		testutil.OnLoop(t, o.base, func() { fill(t, o.conn.FD()) })
		require.NoError(t, o.conn.CloseWrite())
		says("while it waits")
		says("and once more")
		all := testutil.ReadAll(o.socket)
		require.NoError(t, o.conn.FreeAfterFlush(testutil.Patience))
		assert.NotEmpty(t, testutil.Receive(t, all))
		assert.Empty(t, events)
	})
}

// A KeyUpdate is to be answered when libevent has written as much as it may in a row, and then a limit
// stops the reading. The loop goes on.
func TestAnswerToAKeyUpdateAfterALongWrite(t *testing.T) {
	ca := newAuthority(t)
	var keyLog bytes.Buffer
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}})
	a, b := testutil.Socketpair(t)
	conn, err := ctx.NewSocket(base, a, libevent.OptCloseOnFree|libevent.OptPlainIO)
	require.NoError(t, err)
	const first = 5000 // then what follows needs another piece of memory
	read, events := make(chan int, 10), make(chan told, 10)
	require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
		n := b.Input().Len()
		if n > first {
			assert.NoError(t, b.TakeReadLimit(2<<20))
		}
		read <- n
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) { events <- told{what, b.Err()} }))
	require.NoError(t, conn.Enable(rd))
	socket := fileConn(t, b)
	require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", KeyLogWriter: &keyLog}).Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	require.NoError(t, conn.SetRateLimit(&libevent.RateLimit{ReadRate: 1 << 20, Tick: time.Hour}))
	for range 4 { // the socket has room for each
		_, err := conn.Write(make([]byte, 64<<10))
		require.NoError(t, err)
		_, err = io.ReadFull(socket, make([]byte, 64<<10))
		require.NoError(t, err)
	}
	testutil.Eventually(t, func() bool { return conn.Output().Len() == 0 }, "all is written")
	r := newRecords(t, keyLog.String())
	send := func(p []byte) int {
		_, err := socket.Write(p)
		require.NoError(t, err)
		return testutil.Receive(t, read)
	}
	assert.Equal(t, first, send(r.data(strings.Repeat("x", first))))
	assert.Equal(t, first+1, send(slices.Concat(r.data("x"), r.keyUpdate(true), r.keyUpdate(true))))
	for range 3 {
		testutil.OnLoop(t, base, func() {})
	}
	assert.Empty(t, events)
	conn.Free()
}

// A connection fails while the socket is full, so that the alert cannot be written. Reading is
// enabled again, and a filter stops it. The loop goes on.
func TestAlertDoesNotStopTheLoop(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	a, b := testutil.Socketpair(t)
	conn, err := ctx.NewSocket(base, a, libevent.OptCloseOnFree|libevent.OptPlainIO)
	require.NoError(t, err)
	_, events := watch(t, conn)
	socket := fileConn(t, b)
	require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	testutil.OnLoop(t, base, func() { fill(t, a) })
	require.NoError(t, socket.(*net.UnixConn).CloseWrite())
	assert.Equal(t, cutOff, testutil.Receive(t, events))
	require.NoError(t, conn.Enable(rd|wr))
	for range 3 {
		testutil.OnLoop(t, base, func() {}) // libevent reads again
	}
	filter := testutil.NewFilter(t, conn.BufferEvent, pass, pass, libevent.OptCloseOnFree)
	require.NoError(t, filter.SetCallbacks(nil, nil, ignore))
	assert.NotEmpty(t, testutil.Receive(t, testutil.ReadAll(&half{socket})))
	for range 3 {
		testutil.OnLoop(t, base, func() {})
	}
	filter.Free()
}

// half ends when there is nothing to read for a while.
type half struct{ net.Conn }

func (h *half) Read(p []byte) (int, error) {
	if err := h.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return 0, err
	}
	return h.Conn.Read(p)
}

// A peer that asks for answers to KeyUpdates and reads none is cut off.
func TestTooManyAnswersToKeyUpdates(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}})
	for name, stack := range map[string]func(fd int) *openssl.Conn{
		"socket": func(fd int) *openssl.Conn { return newConn(t, ctx, base, fd, false) },
		"filter": func(fd int) *openssl.Conn { return newConn(t, ctx, base, fd, true) },
		"filter on a filter": func(fd int) *openssl.Conn {
			under, err := base.NewSocket(fd, libevent.OptCloseOnFree)
			require.NoError(t, err)
			conn, err := ctx.NewFilter(testutil.NewFilter(t, under, pass, pass, libevent.OptCloseOnFree), libevent.OptCloseOnFree)
			require.NoError(t, err)
			return conn
		},
	} {
		var keyLog bytes.Buffer
		a, b := testutil.Socketpair(t)
		conn := stack(a)
		read, events := watch(t, conn)
		socket := fileConn(t, b)
		require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", KeyLogWriter: &keyLog}).Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		testutil.OnLoop(t, base, func() { fill(t, a) })
		r := newRecords(t, keyLog.String())
		for range 100 {
			_, err := socket.Write(append(append(r.keyUpdate(true), r.keyUpdate(true)...), r.data("x")...))
			require.NoError(t, err)
		}
		assert.Equal(t, "x", testutil.Receive(t, read)[:1])
		what := testutil.Receive(t, events)
		assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
		assert.ErrorIs(t, what.err, syscall.ENOBUFS, name)
		conn.Free()
	}
}

// A peer that reads the answers may ask for as many as it likes.
func TestManyAnswersToKeyUpdates(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}})
	for _, filter := range []bool{false, true} {
		var keyLog bytes.Buffer
		a, b := testutil.Socketpair(t)
		conn := newConn(t, ctx, base, a, filter)
		read, events := watch(t, conn)
		socket := fileConn(t, b)
		require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", KeyLogWriter: &keyLog}).Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		r := newRecords(t, keyLog.String())
		for range 300 {
			updates := append(r.keyUpdate(true), r.keyUpdate(true)...)
			_, err := socket.Write(append(bytes.Clone(updates), r.data("x")...))
			require.NoError(t, err)
			assert.Equal(t, "x", testutil.Receive(t, read))
			_, err = io.ReadFull(socket, updates) // the answers are as long
			require.NoError(t, err)
		}
		assert.Empty(t, events)
		conn.Free()
	}
}

// A record of data waits for room when the peer asks for two answers. OpenSSL would answer the first request
// before it reads the second, in the middle of the record.
func TestAnswersInTheMiddleOfARecord(t *testing.T) {
	var keyLog bytes.Buffer
	modes(t, &tls.Config{KeyLogWriter: &keyLog, MinVersion: tls.VersionTLS13}, func(t *testing.T, o *offender) {
		keyLog.Reset()
		testutil.Background(t, o.base)
		read, events := watch(t, o.conn)
		require.NoError(t, syscall.SetsockoptInt(o.conn.FD(), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 32<<10))
		require.NoError(t, o.socket.SetReadBuffer(32<<10))
		if under := o.conn.Underlying(); under != nil {
			require.NoError(t, under.SetWatermark(wr, 0, 1000))
		}
		require.NoError(t, o.peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		r, much := newRecords(t, keyLog.String()), testutil.Noise(1<<20)
		for range 3 {
			_, err := o.conn.Write(much)
			require.NoError(t, err)
			takesNoMore(t, o.conn.BufferEvent)
			for range 2 {
				_, err = o.socket.Write(slices.Concat(r.keyUpdate(true), r.keyUpdate(true), r.data("x")))
				require.NoError(t, err)
				require.Equal(t, "x", testutil.Receive(t, read))
				testutil.OnLoop(t, o.base, func() {})
			}
			takesAll(t, o.peer, much)
		}
		_, err := o.conn.WriteString("last")
		require.NoError(t, err)
		takesAll(t, o.peer, []byte("last"))
		assert.Empty(t, events)
	})
}

// fill writes to a socket until it has no room.
func fill(t *testing.T, fd int) {
	for _, n := range []int{4096, 1} {
		var err error
		for err == nil {
			_, err = syscall.Write(fd, make([]byte, n))
		}
		assert.Equal(t, syscall.EAGAIN, err)
	}
}

// A peer that sends its handshake byte by byte does not keep the connection open.
func TestHandshakeAsAWhole(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, HandshakeTimeout: 200 * time.Millisecond})
	for _, filter := range []bool{false, true} {
		base := newLoop(t)
		fd, peer := testutil.TCPPair(t)
		conn := newConn(t, ctx, base, fd, filter)
		require.NoError(t, conn.SetTimeouts(testutil.Patience, testutil.Patience))
		_, events := watch(t, conn)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, b := range hello(t) {
				if _, err := peer.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond) // sleep: the client is slow
			}
		}()
		what := testutil.Receive(t, events) // perhaps with EventError, if a byte comes in the same turn
		assert.NotZero(t, what.what&libevent.EventTimeout)
		assert.Equal(t, os.ErrDeadlineExceeded, what.err)
		assert.Zero(t, conn.Enabled())
		assert.False(t, conn.ConnectionState().HandshakeComplete)
		conn.Free()
		testutil.Receive(t, done)
	}
}

// Nor does one that sends nothing.
func TestHandshakeOfASilentPeer(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, HandshakeTimeout: 50 * time.Millisecond})
	for _, filter := range []bool{false, true} {
		fd, _ := testutil.TCPPair(t)
		conn := newConn(t, ctx, newLoop(t), fd, filter)
		_, events := watch(t, conn)
		assert.Equal(t, told{libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, events))
		assert.Zero(t, conn.Enabled())
		conn.Free()
	}
}

// With another socket the connection has another peer, of which nothing is known before the
// handshake.
func TestStateIsOfThePresentSocket(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, _, events, _ := open(t, version)
		assert.True(t, conn.ConnectionState().HandshakeComplete)
		fd, peer := testutil.TCPPair(t)
		testutil.OnLoop(t, conn.Base(), func() {
			assert.NoError(t, conn.ReplaceFD(fd))
			assert.Zero(t, conn.ConnectionState())
		})
		_, err := peer.Write([]byte("this is no handshake"))
		require.NoError(t, err)
		what := testutil.Receive(t, events)
		assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
		assert.Zero(t, conn.ConnectionState())
	})
}

// A question to Go that has no answer does not keep a connection open, also if the handshake is
// done for OpenSSL.
func TestHandshakeTimeoutWhileAsking(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	for name, ask := range map[string]func(cfg *openssl.Config, call func()){
		"verification": func(cfg *openssl.Config, call func()) {
			cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
			cfg.Time = func() time.Time { call(); return time.Now() }
		},
		"VerifyConnection": func(cfg *openssl.Config, call func()) {
			cfg.VerifyConnection = func(openssl.ConnectionState) error { call(); return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				long := longEnough(func(limit time.Duration) bool {
					asked, answer := make(chan struct{}, 10), make(chan struct{})
					defer close(answer)
					cfg := &openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, HandshakeTimeout: limit}
					ask(cfg, func() { asked <- struct{}{}; <-answer })
					fd, socket := testutil.TCPPair(t)
					conn := newSocket(t, server(t, cfg), newLoop(t), fd)
					_, events := watch(t, conn)
					failed := handshakeOf(tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: []tls.Certificate{cert}}))
					assert.Equal(t, told{libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, events))
					assert.Zero(t, conn.ConnectionState())
					if len(asked) > 0 {
						answer <- struct{}{} // too late
						passes(t, conn.Base(), 20*time.Millisecond)
						assert.Empty(t, events)
					}
					conn.Free()
					assert.NoError(t, socket.Close())
					<-failed
					return len(asked) > 0
				})
				assert.True(t, long, "the handshake reaches its question")
			})
		})
	}
}

// onlyCertificate sends the client's first message, and then one more record.
type onlyCertificate struct {
	net.Conn
	writes int
}

func (c *onlyCertificate) Write(p []byte) (int, error) {
	part := p
	switch c.writes++; {
	case c.writes == 2:
		part = p[:min(len(p), 5+int(p[3])<<8+int(p[4]))]
	case c.writes > 2:
		part = nil
	}
	if _, err := c.Conn.Write(part); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A client that is refused, and does not send its signature, does not keep the reason from the server until
// HandshakeTimeout.
func TestRefusedClientThatSaysNoMore(t *testing.T) {
	ca := newAuthority(t)
	fd, socket := testutil.TCPPair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), HandshakeTimeout: time.Hour}), newLoop(t), fd)
	_, events := watch(t, conn)
	failed := handshakeOf(tls.Client(&onlyCertificate{Conn: socket}, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := newAuthorityNamed(t, "another").issue(t, "client")
			return &cert, nil
		}}))
	what := testutil.Receive(t, events)
	assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
	assert.True(t, as[x509.UnknownAuthorityError](what.err), "%v", what)
	conn.Free()
	assert.Error(t, testutil.Receive(t, failed))
	assert.Empty(t, events)
}

// After EventTimeout a handshake does not go on. If the answer that it has waited for comes then, it fails.
func TestAnswerAfterHandshakeTimeout(t *testing.T) {
	needWaitingClients(t)
	ca := newAuthority(t)
	for _, filter := range []bool{false, true} {
		answer := make(chan struct{})
		ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", HandshakeTimeout: 50 * time.Millisecond})
		if !filter {
			ctx = client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", HandshakeTimeout: 50 * time.Millisecond,
				VerifyConnection: func(openssl.ConnectionState) error { <-answer; return nil }})
		}
		fd, socket := testutil.TCPPair(t)
		conn := newConn(t, ctx, newLoop(t), fd, filter)
		_, events := watch(t, conn)
		failed := make(chan error, 1)
		shake := func() {
			go func() {
				failed <- tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12}).Handshake()
			}()
		}
		if !filter {
			shake()
		}
		assert.Equal(t, told{libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, events))
		require.NoError(t, conn.Enable(rd|wr))
		if filter { // the server answers too late
			shake()
		}
		close(answer)
		end := testutil.Receive(t, events)
		assert.NotZero(t, end.what&libevent.EventError)
		assert.ErrorIs(t, end.err, os.ErrDeadlineExceeded)
		assert.Empty(t, events)
		conn.Free()
		assert.NoError(t, socket.Close())
		assert.Error(t, testutil.Receive(t, failed))
	}
}

// After EventTimeout the program is told of nothing before it enables the connection again.
func TestSilenceAfterHandshakeTimeout(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, HandshakeTimeout: 50 * time.Millisecond})
	for _, filter := range []bool{false, true} {
		for name, act := range map[string]func(*net.TCPConn) error{
			"sends":  func(socket *net.TCPConn) error { _, err := socket.Write([]byte{22}); return err },
			"closes": func(socket *net.TCPConn) error { return socket.Close() },
			"resets": func(socket *net.TCPConn) error { return errors.Join(socket.SetLinger(0), socket.Close()) },
		} {
			t.Run(fmt.Sprint(name, ", filter ", filter), func(t *testing.T) {
				base := newLoop(t)
				fd, socket := testutil.TCPPair(t)
				conn := newConn(t, ctx, base, fd, filter)
				_, events := watch(t, conn)
				_, err := socket.Write([]byte{22, 3, 1})
				require.NoError(t, err)
				assert.Equal(t, told{libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, events))
				require.NoError(t, act(socket))
				passes(t, base, 20*time.Millisecond)
				assert.Empty(t, events)
				require.NoError(t, conn.Enable(rd))
				end := testutil.Receive(t, events)
				assert.NotZero(t, end.what&libevent.EventError)
				assert.ErrorIs(t, end.err, os.ErrDeadlineExceeded)
				assert.Empty(t, events)
				conn.Free()
			})
		}
	}
}

// A user who goes on after a timeout of SetTimeouts has the limit of the handshake all the same.
func TestHandshakeTimeoutAfterOtherTimeouts(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, HandshakeTimeout: 100 * time.Millisecond})
	fd, socket := testutil.TCPPair(t)
	conn := newConn(t, ctx, newLoop(t), fd, true)
	events := make(chan libevent.Events, 1000)
	require.NoError(t, conn.SetTimeouts(17*time.Millisecond, 0))
	require.NoError(t, conn.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		if err := b.Enable(rd | wr); !errors.Is(err, libevent.ErrClosed) { // the test frees it after the last timeout, and an error follows
			assert.NoError(t, err)
		}
		events <- what
	}))
	require.NoError(t, conn.Enable(rd))
	_, err := socket.Write([]byte{22, 3, 1, 10})
	require.NoError(t, err)
	for testutil.Receive(t, events) == libevent.EventTimeout|libevent.EventReading {
	}
	// If both timeouts pass in one turn, libevent tells of them in one event. Then Enable fails the handshake.
	assert.ErrorIs(t, conn.Err(), os.ErrDeadlineExceeded)
	conn.Free()
}

// A program that always goes on after a timeout does not keep a peer that sends nothing.
func TestEnableAfterHandshakeTimeout(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, HandshakeTimeout: 50 * time.Millisecond})
	for _, filter := range []bool{false, true} {
		fd, _ := testutil.TCPPair(t)
		conn := newConn(t, ctx, newLoop(t), fd, filter)
		failed := make(chan error, 10)
		require.NoError(t, conn.SetTimeouts(15*time.Millisecond, 0))
		require.NoError(t, conn.Handle(libevent.Handler{
			Timeout: func(b *libevent.BufferEvent, what libevent.What) { assert.NoError(t, b.Enable(what)) },
			Error:   func(_ *libevent.BufferEvent, err error) { failed <- err },
		}))
		assert.ErrorIs(t, testutil.Receive(t, failed), os.ErrDeadlineExceeded)
		assert.Zero(t, conn.Enabled())
		require.NoError(t, conn.Enable(rd|wr))
		testutil.OnLoop(t, conn.Base(), func() {})
		assert.Empty(t, failed)
		conn.Free()
	}
}

// HandshakeTimeout also limits how long a server waits until its tickets are sent. These contain the client's
// certificate, so they do not fit into the socket.
func TestHandshakeTimeoutOfTickets(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issueWith(t, newKey(t), large, "client")
	for _, renegotiation := range []bool{false, true} { // with it the handshake cannot rest
		long := longEnough(func(limit time.Duration) bool {
			ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, SessionTickets: 16,
				ClientAuth: tls.RequireAnyClientCert, Renegotiation: renegotiation, HandshakeTimeout: limit})
			a, b := testutil.Socketpair(t)
			conn := newSocket(t, ctx, newLoop(t), a)
			_, events := watch(t, conn)
			// The client does not read the tickets.
			failed := handshakeOf(tls.Client(fileConn(t, b), &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: []tls.Certificate{cert}}))
			assert.Equal(t, told{libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, events))
			assert.Zero(t, conn.Enabled())
			conn.Free()
			return <-failed == nil
		})
		assert.True(t, long, "the client ends its handshake")
	}
}

// HandshakeTimeout does not limit a connection whose handshake is done.
func TestHandshakeTimeoutAfterTheHandshake(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		long := longEnough(func(limit time.Duration) bool {
			fd, socket := testutil.TCPPair(t)
			conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: version, HandshakeTimeout: limit}), newLoop(t), fd)
			_, events := watch(t, conn)
			failed := handshakeOf(tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}))
			connects := testutil.Receive(t, events) == connected
			if connects {
				passes(t, conn.Base(), 2*limit)
				assert.Empty(t, events)
			}
			conn.Free()
			assert.NoError(t, socket.Close())
			<-failed
			return connects
		})
		assert.True(t, long, "the handshake ends in time")
	})
}

// passes waits until the loop has met the end of a time.
func passes(t *testing.T, base *libevent.Base, d time.Duration) {
	t.Helper()
	passed := make(chan struct{})
	_, err := base.After(d, func() { close(passed) })
	require.NoError(t, err)
	testutil.Receive(t, passed)
}

// longEnough tries longer and longer limits until one is long enough for this machine.
func longEnough(try func(limit time.Duration) bool) bool {
	for limit := 200 * time.Millisecond; limit < testutil.Patience; limit *= 3 {
		if try(limit) {
			return true
		}
	}
	return false
}
