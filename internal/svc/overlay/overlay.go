// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
	"github.com/rustyonions/macronode/revocation"
)

// Name is the service's name in metrics, logs and events.
const Name = "svc-overlay"

// Peer is a node that one wants a session with.
type Peer struct {
	Addr   string // HOST:PORT of its OAP/1 listener
	NodeID string // "b3:…"
}

// Source names peers. What it names may change; Refresh asks again.
type Source interface {
	Name() string // "config"
	Peers() []Peer
}

// Gate stands before a peer.
type Gate interface {
	// Enter refuses, or returns what is to be called with the outcome, once: an
	// error that is not the end of the caller's context says that the peer does
	// not work.
	Enter() (leave func(error), err error)
	// Held reports whether an operator keeps it shut.
	Held() bool
}

// Session is a connection with a peer that both sides greeted. *Link is one.
type Session interface {
	// Call runs one of the peer's operations with a small body and returns its
	// answer of at most limit bytes. A refusal by the peer is a *macronode.Error.
	Call(ctx context.Context, op macronode.Op, args []macronode.Arg, body []byte, limit int) ([]byte, error)
	Ping(ctx context.Context) (time.Duration, error)
	// Heard is when the last frame came.
	Heard() time.Time
	// GoAway ends the session once its calls have ended, Close at once.
	GoAway()
	Close() error
	Done() <-chan struct{}
	Err() error
}

// Revocations are what the node holds of them.
type Revocations interface {
	// Summary is of all.
	Summary() *revocation.Summary
	// Lacking lists what theirs may lack, in pages of at most limit: a next that
	// is not empty goes on.
	Lacking(ctx context.Context, theirs *revocation.Summary, cursor string, limit int) (items []revocation.Item, next string, err error)
	// Adopt adds those that are not there and returns them; they are durable and
	// in effect then. by is who said so. foreign is how many name a key that
	// this node does not have.
	Adopt(ctx context.Context, items []revocation.Item, by string) (added []revocation.Item, foreign int, err error)
}

// Config is what a Service needs. All but Log and the time limits must be set.
type Config struct {
	NodeID string
	// Connect makes a greeted session with the node of that id, or fails soon.
	Connect func(ctx context.Context, addr, nodeID string) (Session, error)
	Sources []Source
	// Barred reports whether a node is no peer, whoever names it; nil: none is.
	Barred func(nodeID string) bool
	// Gate makes the gate of a peer; remove takes it away with the peer.
	Gate        func(nodeID string) (g Gate, remove func())
	Revocations Revocations
	// Sign signs news with the node's key.
	Sign    func(items []revocation.Item, cursor string) ([]byte, error)
	Metrics *Metrics
	// Event hears of every new state of a peer; it must be quick.
	Event func(nodeID, state, why string)
	Log   *slog.Logger // nil: nothing is logged

	PingEvery, PingLimit time.Duration // 0: the defaults
	CompareEvery         time.Duration // 0: the default
}

// Defaults of Config.
const (
	DefaultPingEvery    = 500 * time.Millisecond
	DefaultPingLimit    = time.Second
	DefaultCompareEvery = 30 * time.Second
)

func (c *Config) fill() error {
	if c.NodeID == "" || c.Connect == nil || c.Gate == nil || c.Revocations == nil || c.Sign == nil || c.Metrics == nil || c.Event == nil {
		return errors.New("overlay: the config is incomplete")
	}
	if c.Barred == nil {
		c.Barred = func(string) bool { return false }
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.PingEvery = cmp.Or(c.PingEvery, DefaultPingEvery)
	c.PingLimit = cmp.Or(c.PingLimit, DefaultPingLimit)
	c.CompareEvery = cmp.Or(c.CompareEvery, DefaultCompareEvery)
	return nil
}

// Announcement takes what a peer announces for a tenant.
type Announcement func(ctx context.Context, from string, tenant macronode.TenantID, payload []byte) error

// Service is the overlay of one node. Its methods may be called from any
// goroutine, but for Subscribe and OnPeer, which come before Serve.
type Service struct {
	conf     Config
	exchange *gossip.Exchange
	heard    Announcement
	head     Announcement
	onPeer   []func(node string, up bool)

	peers atomic.Pointer[map[string]*peer] // by node id; replaced, never changed

	mu  sync.Mutex // held to change peers, or to run
	run context.Context
	wg  sync.WaitGroup
}

// New returns a service whose peers are those of the sources. It does nothing
// until Serve runs.
func New(c Config) (*Service, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	self, err := gossip.ParseNode(c.NodeID)
	if err != nil {
		return nil, err
	}
	s := &Service{conf: c}
	s.peers.Store(&map[string]*peer{})
	s.exchange = gossip.New(gossip.Config{Self: self, Compare: s.compareWith, Count: c.Metrics.gossip, Handlers: map[gossip.Lane]gossip.Handler{
		gossip.Revocations: s.news,
		gossip.Registry: func(ctx context.Context, from string, m *gossip.Message) error {
			return announced(ctx, s.head, from, m)
		},
		gossip.Announcements: func(ctx context.Context, from string, m *gossip.Message) error {
			return announced(ctx, s.heard, from, m)
		},
	}})
	c.Metrics.watch(s)
	return s, s.Refresh()
}

var errNobody = errors.New("nobody here listens to that")

func announced(ctx context.Context, to Announcement, from string, m *gossip.Message) error {
	if to == nil {
		return errNobody
	}
	return to(ctx, from, m.Tenant, m.Payload)
}

// Check reports what is wrong with a list of peers for the node of that id.
func Check(nodeID string, list []Peer) error {
	for _, p := range list {
		if p.NodeID == nodeID {
			return errors.New("oap.peers names this node itself: " + p.Addr)
		}
		if _, err := gossip.ParseNode(p.NodeID); err != nil {
			return err
		}
	}
	return nil
}

// Refresh takes over what the sources name now. Of two that name one node the
// first one's address counts. Sessions with those that stay go on.
func (s *Service) Refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	type named struct{ addr, source string }
	want := make(map[string]named)
	for _, src := range s.conf.Sources {
		list := src.Peers()
		if err := Check(s.conf.NodeID, list); err != nil {
			return err
		}
		for _, p := range list {
			if s.conf.Barred(p.NodeID) {
				continue
			}
			if _, ok := want[p.NodeID]; !ok {
				want[p.NodeID] = named{p.Addr, src.Name()}
			}
		}
	}
	old := *s.peers.Load()
	next := make(map[string]*peer, len(want))
	for id, n := range want {
		p := old[id]
		if p == nil {
			out, err := s.exchange.Join(id)
			if err != nil {
				return err
			}
			p = newPeer(s, id, out)
			s.start(p)
		}
		p.move(n.addr, n.source)
		next[id] = p
	}
	s.peers.Store(&next)
	for id, p := range old {
		if next[id] == nil {
			s.exchange.Leave(id)
			p.remove()
		}
	}
	return nil
}

// start runs p where the service runs. The lock is held.
func (s *Service) start(p *peer) {
	if s.run == nil {
		return
	}
	ctx := s.run
	s.wg.Go(func() { p.serve(ctx) })
}

// Serve keeps sessions until ctx ends, and then ends them. It may be called again
// after it returned.
func (s *Service) Serve(ctx context.Context) error {
	s.mu.Lock()
	if s.run != nil {
		s.mu.Unlock()
		return errors.New("overlay: Serve runs already")
	}
	s.run = ctx
	for _, p := range *s.peers.Load() {
		s.start(p)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.run = nil
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

func (s *Service) peer(node string) *peer { return (*s.peers.Load())[node] }

// Known reports whether the node is a peer now.
func (s *Service) Known(node string) bool { return s.peer(node) != nil }

// Welcome reports whether the node is a peer that nobody keeps shut now: whether
// its connections are to be taken.
func (s *Service) Welcome(node string) bool {
	p := s.peer(node)
	if p == nil {
		return false
	}
	d, _ := p.shut()
	return d == 0
}

// Adopt takes a session that the peer dialled, and ends it where the node is no
// peer or another session stays.
func (s *Service) Adopt(node string, sess Session) {
	p := s.peer(node)
	if p == nil {
		_ = sess.Close()
		return
	}
	p.offer(sess, false)
}

// Active lists the peers that there is a session with.
func (s *Service) Active() (list []string) {
	for id, p := range *s.peers.Load() {
		if p.current() != nil {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

// ErrNoSession says that there is no session with the peer now.
var ErrNoSession = errors.New("there is no session with this node")

// Session is the session with a peer, or ErrNoSession.
func (s *Service) Session(node string) (Session, error) {
	if p := s.peer(node); p != nil {
		if l := p.current(); l != nil {
			return l.Session, nil
		}
	}
	return nil, ErrNoSession
}

// PeerGate is the gate before a peer; nil where the node is no peer.
func (s *Service) PeerGate(node string) Gate {
	if p := s.peer(node); p != nil {
		return p.gate
	}
	return nil
}

// Penalise ends the session with a peer and keeps it shut for a while: 10 s, and
// longer each time, up to 10 minutes.
func (s *Service) Penalise(node, why string) {
	if p := s.peer(node); p != nil {
		d := p.hold(why)
		s.conf.Log.Warn("a peer is shut out for a while", "event", "peer_penalty", "node", node, "reason", why, "for", d.String())
	}
}

// Publish announces payload for a tenant to the peer of that id, or to all where
// it is empty, and reports whether it is small enough. It does not wait; it may be
// lost.
func (s *Service) Publish(to string, tenant macronode.TenantID, payload []byte) bool {
	return s.exchange.Publish(gossip.Announcements, to, tenant, payload)
}

// PublishHead tells every node that is connected of a new head of the registry.
func (s *Service) PublishHead(payload []byte) bool {
	return s.exchange.Publish(gossip.Registry, "", macronode.TenantID{}, payload)
}

// Subscribe names who takes announcements. An error refuses one.
func (s *Service) Subscribe(h Announcement) { s.heard = h }

// SubscribeHead names who takes heads of the registry. It verifies them: what it
// refuses is not told further.
func (s *Service) SubscribeHead(h Announcement) { s.head = h }

// OnPeer adds one that hears of sessions that begin and end.
func (s *Service) OnPeer(f func(node string, up bool)) { s.onPeer = append(s.onPeer, f) }

func (s *Service) tell(node string, up bool) {
	for _, f := range s.onPeer {
		f(node, up)
	}
}

// Status is a peer as it is now.
type Status struct {
	NodeID, Addr, Source string
	State                string
	Since                time.Time
	Dialled              bool // the session, by this node
	RTT                  time.Duration
	Sessions             uint64 // since the start
	Queued               int
	LastError            string
}

// Statuses lists the peers by node id.
func (s *Service) Statuses() []Status {
	peers := *s.peers.Load()
	list := make([]Status, 0, len(peers))
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		list = append(list, peers[id].status())
	}
	return list
}
