// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Endpoint is one socket to listen on.
type Endpoint struct {
	// Name says which setting it comes from ("bind", "admin.sock"); it is
	// unique in a Set.
	Name string
	// Network is "tcp" or "unix"; Addr is host:port, or the socket's path.
	Network, Addr string
	// TLS is nil for plaintext. A Unix socket has none.
	TLS *TLS
	// HandshakeTimeout bounds a TLS handshake; more than 0.
	HandshakeTimeout time.Duration
	// StallTimeout ends a write in which no byte moved for so long; more than 0.
	StallTimeout time.Duration
	// Admin says that admin routes are served here even where they have
	// listeners of their own, and that connections count apart.
	Admin bool
	// AllowUIDs are the users whose processes may connect to a Unix socket, as
	// the kernel names them. It must not be empty there.
	AllowUIDs []uint32
	// PlainAnswer is sent to a client that speaks plain text to a TLS socket;
	// nil sends nothing.
	PlainAnswer []byte
}

func (e *Endpoint) validate() error {
	switch {
	case e.Name == "" || e.Addr == "":
		return errors.New("listen: an endpoint needs a name and an address")
	case e.Network == "unix" && e.TLS != nil:
		return fmt.Errorf("listen: %s: no TLS on a Unix socket", e.Name)
	case e.Network == "unix" && len(e.AllowUIDs) == 0:
		return fmt.Errorf("listen: %s: no user is allowed to connect", e.Name)
	case e.Network != "unix" && e.Network != "tcp":
		return fmt.Errorf("listen: %s: unknown network %q", e.Name, e.Network)
	case e.Network == "tcp" && len(e.AllowUIDs) != 0:
		return fmt.Errorf("listen: %s: user ids are known on Unix sockets alone", e.Name)
	case e.TLS != nil && e.HandshakeTimeout <= 0:
		return fmt.Errorf("listen: %s: a handshake needs a time limit", e.Name)
	case e.StallTimeout <= 0:
		return fmt.Errorf("listen: %s: writes need a time limit", e.Name)
	}
	return nil
}

// key tells whether a listener that is open serves an endpoint.
func (e *Endpoint) key() string { return e.Network + " " + e.Addr }

// SetConfig is what a Set needs.
type SetConfig struct {
	Wire    string // "http" or "oap", for metrics
	Caps    *Caps  // shared by all Sets of a node
	Metrics *Metrics
	Log     *slog.Logger // nil: discard
	// Inherit returns a listening socket that was handed to the process for
	// this network and address (socket activation, an upgrade), or nil. It is
	// asked before a socket is made. nil: there are none.
	Inherit func(network, addr string) net.Listener
}

// Set is the listening sockets of one wire.
type Set struct {
	conf  SetConfig
	conns chan net.Conn
	stop  chan struct{} // closed when nothing is handed out any more
	hurry atomic.Bool   // no lingering any more
	wg    sync.WaitGroup

	mu        sync.Mutex
	listeners map[string]*listener // by endpoint key
	closed    bool
	views     int                // open ones
	waiting   map[*Conn]struct{} // in a handshake, or not yet taken
}

// NewSet returns a Set that listens nowhere yet. Its Close must be called.
func NewSet(c SetConfig) (*Set, error) {
	if c.Caps == nil || c.Metrics == nil || !slices.Contains(wires, c.Wire) {
		return nil, errors.New("listen: a Set needs a wire, caps and metrics")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Set{
		conf: c, conns: make(chan net.Conn), stop: make(chan struct{}),
		listeners: make(map[string]*listener), waiting: make(map[*Conn]struct{}),
	}, nil
}

// ErrSetClosed is returned by a Set after Close.
var ErrSetClosed = errors.New("listen: the set is closed")

// Change is a verified change of a Set that has not happened yet: new sockets
// are bound but not accepted from. Exactly one of Commit and Abort is called.
type Change struct {
	set   *Set
	want  []*Endpoint
	fresh map[string]*listener
	late  []*Endpoint // bound at Commit: the port is still held by a listener that goes
}

// Prepare checks that the Set can listen on exactly the given endpoints and
// binds what is new. A port that a listener on its way out still holds is
// bound at Commit.
func (s *Set) Prepare(endpoints []Endpoint) (*Change, error) {
	ch := &Change{set: s, fresh: make(map[string]*listener)}
	names, keys := map[string]bool{}, map[string]bool{}
	for i := range endpoints {
		e := endpoints[i]
		e.AllowUIDs = slices.Clone(e.AllowUIDs)
		if err := e.validate(); err != nil {
			return nil, err
		}
		if names[e.Name] || keys[e.key()] {
			return nil, fmt.Errorf("listen: %s: %s is listed twice", e.Name, e.Addr)
		}
		names[e.Name], keys[e.key()] = true, true
		ch.want = append(ch.want, &e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrSetClosed
	}
	for _, e := range ch.want {
		if s.listeners[e.key()] != nil {
			continue
		}
		ln, err := s.bind(e)
		if errors.Is(err, syscall.EADDRINUSE) && len(s.inTheWay(e, keys)) > 0 {
			ch.late = append(ch.late, e)
			continue
		}
		if err != nil {
			ch.Abort()
			return nil, fmt.Errorf("listen: %s: %w", e.Name, err)
		}
		ch.fresh[e.key()] = ln
	}
	return ch, nil
}

// inTheWay lists the listeners not in keep that hold e's port, as when
// "0.0.0.0:8080" becomes "127.0.0.1:8080".
func (s *Set) inTheWay(e *Endpoint, keep map[string]bool) (keys []string) {
	_, port, err := net.SplitHostPort(e.Addr)
	if err != nil || e.Network != "tcp" {
		return nil
	}
	for k, l := range s.listeners {
		if keep[k] {
			continue
		}
		if _, p, err := net.SplitHostPort(l.ln.Addr().String()); err == nil && p == port {
			keys = append(keys, k)
		}
	}
	return keys
}

// Abort gives the new sockets back.
func (ch *Change) Abort() {
	for _, l := range ch.fresh {
		l.shut()
	}
}

// Commit makes the change: new sockets are accepted from, those that stay take
// their new settings for the next connection, the others stop accepting, and
// their open connections go on. It can fail only for a port that could not be
// bound before; then the Set is as it was but for that port's old listener,
// which is opened again.
func (ch *Change) Commit() error {
	s := ch.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		ch.Abort()
		return ErrSetClosed
	}
	keep := map[string]bool{}
	for _, e := range ch.want {
		keep[e.key()] = true
	}
	if err := ch.bindLate(keep); err != nil {
		ch.Abort()
		return err
	}
	for k, l := range s.listeners {
		if !keep[k] {
			l.shut()
			delete(s.listeners, k)
		}
	}
	for k, l := range ch.fresh {
		s.listeners[k] = l
		s.wg.Go(l.run)
	}
	for _, e := range ch.want {
		s.listeners[e.key()].endpoint.Store(e)
	}
	return nil
}

// bindLate closes what stands in the way of the late endpoints and binds them.
func (ch *Change) bindLate(keep map[string]bool) error {
	s := ch.set
	for _, e := range ch.late {
		var gone []*Endpoint
		for _, k := range s.inTheWay(e, keep) {
			l := s.listeners[k]
			gone = append(gone, l.endpoint.Load())
			l.shut()
			delete(s.listeners, k)
		}
		ln, err := s.bind(e)
		if err == nil {
			ch.fresh[e.key()] = ln
			continue
		}
		for _, old := range gone {
			if l, e := s.bind(old); e == nil {
				s.listeners[old.key()] = l
				s.wg.Go(l.run)
			} else {
				s.conf.Log.Error("a listener is lost", "event", "listener_lost", "endpoint", old.Name, "error", e)
			}
		}
		return fmt.Errorf("listen: %s: %w", e.Name, err)
	}
	return nil
}

// Apply is Prepare and Commit in one.
func (s *Set) Apply(endpoints []Endpoint) error {
	ch, err := s.Prepare(endpoints)
	if err != nil {
		return err
	}
	return ch.Commit()
}

// Addrs is where the Set listens, by endpoint name.
func (s *Set) Addrs() map[string]net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := make(map[string]net.Addr, len(s.listeners))
	for _, l := range s.listeners {
		addrs[l.endpoint.Load().Name] = l.ln.Addr()
	}
	return addrs
}

// Files returns duplicates of the listening sockets, by "network address" as
// configured, for a successor process; the caller closes them. The sockets of
// the Set stay open, and Unix sockets keep their path when it closes.
func (s *Set) Files() (map[string]*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make(map[string]*os.File, len(s.listeners))
	for k, l := range s.listeners {
		f, err := l.file()
		if err != nil {
			for f := range maps.Values(files) {
				f.Close()
			}
			return nil, err
		}
		files[k] = f
	}
	return files, nil
}

// Close stops accepting. Connections already accepted are still handed out while
// there is a View to take them, until ctx ends; then they are closed. After it no
// goroutine of the Set runs.
// Connections that were handed out are their holders'.
func (s *Set) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return nil
	}
	s.closed = true
	for _, l := range s.listeners {
		l.shut()
	}
	taken := s.views > 0
	s.mu.Unlock()
	if !taken {
		s.drop()
	}
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.drop()
	}
	<-done
	s.drop()
	return nil
}

// drop ends everything that waits to be handed out. It may be called twice.
func (s *Set) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hurry.Swap(true) {
		close(s.stop)
	}
	for c := range s.waiting {
		c.Close()
	}
}

// wait notes that c has no holder yet, forget that it has.
func (s *Set) wait(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[c] = struct{}{}; s.hurry.Load() {
		c.Close()
	}
}

func (s *Set) forget(c *Conn) {
	s.mu.Lock()
	delete(s.waiting, c)
	s.mu.Unlock()
}

// deliver hands nc, whose raw connection is c, to the next View that accepts.
func (s *Set) deliver(c *Conn, nc net.Conn) {
	defer s.forget(c)
	select {
	case s.conns <- nc:
	case <-s.stop:
		c.Close()
	}
}

// View takes connections from a Set. It is a net.Listener whose Close leaves
// the sockets alone.
type View struct {
	set  *Set
	done chan struct{}
	once sync.Once
}

// View returns a new view. Several may be open; each connection goes to one.
func (s *Set) View() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views++
	return &View{set: s, done: make(chan struct{})}
}

var _ net.Listener = (*View)(nil)

// Accept returns the next connection: a *Conn, or a *tls.Conn over one whose
// handshake is done. After Close of the view or of the Set it returns
// net.ErrClosed.
func (v *View) Accept() (net.Conn, error) {
	select {
	case <-v.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-v.set.conns:
		return c, nil
	case <-v.done:
	case <-v.set.stop:
	}
	return nil, net.ErrClosed
}

// Close ends Accept.
func (v *View) Close() error {
	v.once.Do(func() {
		close(v.done)
		s := v.set
		s.mu.Lock()
		s.views--
		last := s.closed && s.views == 0
		s.mu.Unlock()
		if last {
			s.drop()
		}
	})
	return nil
}

// Addr is nowhere: a view has many.
func (v *View) Addr() net.Addr { return &net.UnixAddr{Name: v.set.conf.Wire, Net: "set"} }
