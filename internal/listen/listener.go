// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
)

// Accepting pauses this long after a failure such as too many open files,
// doubling while it lasts.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// loopbackBuffer is how many bytes, and as much again for the kernel's own use,
// may be on their way to a client on this machine. There is no distance to bridge,
// and left to itself the kernel lets megabytes wait for each slow reader: more than
// the processor's caches hold, which makes every copy slower.
const loopbackBuffer = 128 << 10

// listener is one bound socket and the goroutine that accepts from it.
type listener struct {
	set      *Set
	ln       net.Listener
	endpoint atomic.Pointer[Endpoint] // settings for the next connection
	path     *socketPath              // of a Unix socket that we made
	gone     chan struct{}
	once     sync.Once
}

// bind makes e's socket, or takes the one the process inherited.
func (s *Set) bind(e *Endpoint) (*listener, error) {
	l := &listener{set: s, gone: make(chan struct{})}
	l.endpoint.Store(e)
	if s.conf.Inherit != nil {
		l.ln = s.conf.Inherit(e.Network, e.Addr)
	}
	var err error
	switch {
	case l.ln != nil:
		if u, ok := l.ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
	case e.Network == "unix":
		l.ln, l.path, err = listenUnix(e.Addr)
	default:
		var lc net.ListenConfig
		l.ln, err = lc.Listen(context.Background(), e.Network, e.Addr)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// shut closes the socket; run then ends.
func (l *listener) shut() {
	l.once.Do(func() {
		close(l.gone)
		if l.path != nil {
			l.path.remove()
		}
		l.ln.Close()
	})
}

// file duplicates the socket for a successor, which then owns the path too.
func (l *listener) file() (*os.File, error) {
	f, ok := l.ln.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("listen: %s cannot be handed over", l.endpoint.Load().Name)
	}
	if l.path != nil {
		l.path.keep()
	}
	return f.File()
}

// run accepts until the socket is shut. A plaintext connection that nobody
// takes holds it up, so that the rest waits in the kernel.
func (l *listener) run() {
	pause := firstPause
	for {
		nc, err := l.ln.Accept()
		if err == nil {
			pause = firstPause
			l.admit(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		l.set.conf.Log.Warn("accepting failed", "event", "accept", "endpoint", l.endpoint.Load().Name, "error", err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-l.gone:
			t.Stop()
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// admit holds a new connection against the rules and passes it on.
func (l *listener) admit(nc net.Conn) {
	s, e := l.set, l.endpoint.Load()
	c, refused := s.newConn(nc, e)
	if refused != "" {
		s.conf.Metrics.refused.WithLabelValues(s.conf.Wire, refused).Inc()
		s.conf.Log.Debug("connection refused", "event", "refused", "endpoint", e.Name, "client", RedactAddr(addrOf(nc.RemoteAddr())), "reason", refused)
		nc.Close()
		return
	}
	s.wait(c)
	if e.TLS == nil {
		s.deliver(c, c)
		return
	}
	// The goroutine is bounded by the handshake's time limit and, once the
	// handshake is done, by Close of the Set; their number by max_conns.
	s.wg.Go(func() {
		if tc := s.handshake(c, e); tc != nil {
			s.wait(c)
			s.deliver(c, tc)
		}
	})
}

// newConn wraps nc, or says why it is refused.
func (s *Set) newConn(nc net.Conn, e *Endpoint) (*Conn, string) {
	sock, ok := nc.(socket)
	if !ok {
		return nil, refusedTLS
	}
	c := &Conn{socket: sock, set: s, endpoint: e, addr: addrOf(nc.RemoteAddr())}
	if e.Network == "unix" {
		uid, err := peerUID(nc)
		if err != nil || !slices.Contains(e.AllowUIDs, uid) {
			return nil, refusedUID
		}
		c.peer = macronode.Peer{UDS: true, UID: uid}
	} else {
		c.peer = macronode.Peer{Addr: c.addr, Loopback: c.addr.IsLoopback()}
	}
	release, refused := s.conf.Caps.take(c.addr, e.Admin || e.Network == "unix")
	if refused != "" {
		return nil, refused
	}
	c.release = release
	if t, ok := nc.(*net.TCPConn); ok && c.addr.IsLoopback() {
		// It cannot fail but on a connection that is over.
		_ = t.SetWriteBuffer(loopbackBuffer)
	}
	s.conf.Metrics.open.WithLabelValues(s.conf.Wire).Inc()
	return c, ""
}
