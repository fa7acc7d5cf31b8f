// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/oapd"
	"github.com/rustyonions/macronode/internal/svc/access/spread"
	"github.com/rustyonions/macronode/internal/svc/kms/minting"
	"github.com/rustyonions/macronode/internal/svc/ops"
	"github.com/rustyonions/macronode/internal/svc/overlay"
	"github.com/rustyonions/macronode/internal/svc/overlay/dial"
	"github.com/rustyonions/macronode/internal/svc/overlay/fetch"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
	"github.com/rustyonions/macronode/internal/svc/overlay/link"
	"github.com/rustyonions/macronode/oap/mux"
	"github.com/rustyonions/macronode/revocation"
)

// A peer's breaker opens after this many failures in a row, and tries again so
// soon that a session is back two seconds after its link.
const (
	peerFailures = 5
	peerOpenFor  = 400 * time.Millisecond
)

// configPeers are the peers that the config names.
type configPeers struct{ n *Node }

// Name implements overlay.Source.
func (configPeers) Name() string { return "config" }

// Peers implements overlay.Source.
func (c configPeers) Peers() []overlay.Peer { return peersOf(c.n.config()) }

func peersOf(c *config.Config) []overlay.Peer {
	var list []overlay.Peer
	for _, p := range c.OAP.Peers {
		list = append(list, overlay.Peer{Addr: p.Addr, NodeID: p.NodeID})
	}
	return list
}

// checkPeers refuses a config whose peers cannot be.
func (n *Node) checkPeers(c *config.Config) error {
	if err := overlay.Check(n.nodeID, peersOf(c)); err != nil {
		return datadir.Exitf(macronode.ExitConfig, "%w", err)
	}
	return nil
}

// makeOverlay makes the sessions with other nodes. Nothing is dialled yet.
func (n *Node) makeOverlay(c *config.Config) (err error) {
	if err := n.checkPeers(c); err != nil {
		return err
	}
	n.book = spread.New(n.access, minting.Keys{Store: n.keys})
	dialer := &dial.Dialer{Certificate: func() *tls.Certificate { return n.identity.Certificate }}
	n.overlay, err = overlay.New(overlay.Config{
		NodeID: n.nodeID, Sources: []overlay.Source{configPeers{n}, n.members.Source()}, Barred: n.members.Barred, Gate: n.peerGate, Revocations: n.book,
		Connect: func(ctx context.Context, addr, id string) (overlay.Session, error) {
			conn, err := dialer.Dial(ctx, addr, id)
			if err != nil {
				return nil, err
			}
			return n.greetPeer(ctx, conn, id)
		},
		Sign: func(items []revocation.Item, cursor string) ([]byte, error) {
			return revocation.SignNews(items, cursor, n.identity)
		},
		Metrics: overlay.NewMetrics(n.metrics), Log: n.log,
		Event: func(id, state, why string) { n.bus.Publish(bus.Peer(id, state, why)) },
	})
	if err != nil {
		return err
	}
	n.exchangeObjects()
	n.members.Attach(n.overlay)
	return nil
}

// greetPeer begins the session on a connection that this node made.
func (n *Node) greetPeer(ctx context.Context, conn net.Conn, id string) (overlay.Session, error) {
	o := &n.config().OAP
	peer := macronode.Peer{TLS: true, Overlay: true, NodeID: id}
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		peer.Addr = a.Addr().Unmap()
	}
	limits := link.Limits{MaxFrameBytes: int(o.MaxFrameBytes), MaxInflight: int(o.MaxInflight), MaxStreams: int(o.MaxStreams), ChunkBytes: int(o.ChunkBytes)}
	return link.Dial(ctx, conn, limits, n.oapd.Handler(peer))
}

// adoptSession takes a session that another node dialled.
func (n *Node) adoptSession(p macronode.Peer, s *mux.Session) {
	n.overlay.Adopt(p.NodeID, link.Accepted(s))
}

// overlayTLS lets peers in at the OAP/1 listener.
func (n *Node) overlayTLS() *listen.OverlayTLS {
	return &listen.OverlayTLS{Certificate: func() *tls.Certificate { return n.identity.Certificate }, Known: n.overlay.Welcome}
}

// told tells peers of revocations that were made here.
func (n *Node) told(list []revocation.Entry) {
	if n.overlay != nil {
		n.overlay.Revoked(n.book.Items(list))
	}
}

// peerGate makes the breaker before a peer.
func (n *Node) peerGate(id string) (overlay.Gate, func()) {
	name := "peer-" + strings.TrimPrefix(id, "b3:")
	b := n.breakers.Add(breaker.Config{Name: name, Failures: peerFailures, OpenFor: peerOpenFor, MaxOpenFor: peerOpenFor, Trials: 1, Judge: breaker.Strict})
	return gate{b}, func() { n.breakers.Remove(name) }
}

// gate is a breaker as the overlay wants it.
type gate struct{ b *breaker.Breaker }

// Enter implements overlay.Gate and fetch.Guard.
func (g gate) Enter() (func(error), error) {
	pass, err := g.b.Enter()
	if err != nil {
		return nil, err
	}
	return pass.Leave, nil
}

// Held implements overlay.Gate.
func (g gate) Held() bool { return g.b.Status().Mode == breaker.ForcedOpen }

// exchangeObjects fits the sessions to the exchange of objects.
func (n *Node) exchangeObjects() {
	var s fetch.Sessions = objectSessions{n}
	n.elsewhere.sessions.Store(&s)
	n.overlay.Subscribe(func(_ context.Context, from string, _ macronode.TenantID, payload []byte) error {
		return n.elsewhere.Heard(from, payload)
	})
	n.overlay.OnPeer(func(node string, up bool) {
		if up {
			n.elsewhere.Up(node)
			return
		}
		n.elsewhere.Down(node)
	})
}

// objectSessions are the sessions as the exchange of objects wants them.
type objectSessions struct{ n *Node }

// Call implements fetch.Sessions.
func (o objectSessions) Call(ctx context.Context, peer string, q fetch.Question) (*fetch.Answer, error) {
	s, err := o.n.overlay.Session(peer)
	if err != nil {
		return nil, err
	}
	l, ok := s.(*link.Link)
	if !ok {
		return nil, overlay.ErrNoSession
	}
	a, err := l.Ask(ctx, link.Question{Op: q.Op, Tenant: q.Tenant, Args: q.Args})
	if err != nil {
		return nil, err
	}
	return &fetch.Answer{ContentType: a.Head.Headers.Get("Content-Type"), Body: a.Body}, nil
}

// Tell implements fetch.Sessions.
func (o objectSessions) Tell(payload []byte) {
	if !o.n.overlay.Publish("", macronode.TenantID{}, payload) {
		o.n.log.Error("an announcement is larger than gossip takes", "event", "announce", "bytes", len(payload), "max", gossip.Announcements.MaxPayload())
	}
}

// Penalise implements fetch.Sessions.
func (o objectSessions) Penalise(peer, why string) { o.n.overlay.Penalise(peer, why) }

// overlaid is svc-overlay: the listener, and the sessions that this node dials.
type overlaid struct {
	*oapd.Service
	n *Node
}

// Routes are those that peers may ask for.
func (o overlaid) Routes() []macronode.Route {
	return slices.Concat(o.n.overlay.Routes(), o.n.elsewhere.holder.Routes(), o.n.members.PeerRoutes())
}

// Serve implements macronode.Service.
func (o overlaid) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := func(f func(context.Context) error) <-chan error {
		ended := make(chan error, 1)
		go func() {
			defer cancel()
			ended <- f(ctx)
		}()
		return ended
	}
	peers, objects, members := run(o.n.overlay.Serve), run(o.n.elsewhere.Serve), run(o.n.members.Follow)
	err := o.Service.Serve(ctx)
	cancel()
	return errors.Join(err, <-peers, <-objects, <-members)
}

// peerStatuses are the peers for operators.
func (n *Node) peerStatuses() []ops.PeerStatus {
	list := []ops.PeerStatus{}
	for _, p := range n.overlay.Statuses() {
		list = append(list, ops.PeerStatus{NodeID: p.NodeID, Addr: p.Addr, Source: p.Source, State: p.State, SinceMS: p.Since.UnixMilli(),
			Dialled: p.Dialled, RTTUS: p.RTT.Microseconds(), Sessions: p.Sessions, Queued: p.Queued, Why: p.LastError})
	}
	return list
}
