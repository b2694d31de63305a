package openssl

/*
#include "native.h"
*/
import "C"

import (
	"container/list"
	"sync"
)

// sessionCache has the last session with each of the servers used last. A session in it is
// a reference of its own.
type sessionCache struct {
	most int

	mu     sync.Mutex
	used   *list.List // of *kept, last used first
	byName map[string]*list.Element
}

type kept struct {
	name    string
	session *C.SSL_SESSION
}

func newSessionCache(most int) *sessionCache {
	return &sessionCache{most: most, used: list.New(), byName: map[string]*list.Element{}}
}

// put takes the reference.
func (s *sessionCache) put(name string, session *C.SSL_SESSION) {
	live.sessions.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" || s.most == 0 { // whose it is, nobody knows
		drop(session)
		return
	}
	if e, ok := s.byName[name]; ok {
		drop(e.Value.(*kept).session)
		e.Value.(*kept).session = session
		s.used.MoveToFront(e)
		return
	}
	s.byName[name] = s.used.PushFront(&kept{name, session})
	if s.used.Len() > s.most {
		s.remove(s.used.Back())
	}
}

// get gives a copy of the session with a server, or nil: OpenSSL makes it useless if its
// connection ends without a close_notify.
func (s *sessionCache) get(name string) *C.SSL_SESSION {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byName[name]
	if !ok {
		return nil
	}
	session := e.Value.(*kept).session
	if C.gtls_session_fresh(session) == 0 {
		s.remove(e)
		return nil
	}
	s.used.MoveToFront(e)
	return C.SSL_SESSION_dup(session)
}

func (s *sessionCache) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.used.Len() > 0 {
		s.remove(s.used.Back())
	}
}

func (s *sessionCache) remove(e *list.Element) {
	k := s.used.Remove(e).(*kept)
	delete(s.byName, k.name)
	drop(k.session)
}

func drop(session *C.SSL_SESSION) {
	C.SSL_SESSION_free(session)
	live.sessions.Add(-1)
}
