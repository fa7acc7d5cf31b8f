// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package members puts the registry and the sessions with other nodes together: the
// registry names peers, and peers tell each other of the registry.
package members

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/overlay"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
	"github.com/rustyonions/macronode/internal/svc/registry"
)

// maxPeers bounds the sessions that the registry asks for: everything is told to all
// of them.
const maxPeers = 64

// Members are the registry's nodes as the overlay wants them, and the overlay's
// sessions as the registry wants them.
type Members struct {
	*registry.Service
	conf     registry.Config
	follower *registry.Follower
	changed  chan struct{} // capacity 1: the registry changed
	overlay  atomic.Pointer[overlay.Service]
}

// New makes svc-registry, and a registry where the data directory is older than
// registries are. Of c it fills in what joins the parts.
func New(ctx context.Context, c registry.Config, keys *kms.Store) (*Members, error) {
	if _, err := parts.FoundRegistry(ctx, c.KV, keys, c.NodeID); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	m := &Members{changed: make(chan struct{}, 1)}
	c.Halves = func(ref bundle.Ref) ([]bundle.Signer, error) { return parts.RegistryHalves(keys, ref) }
	c.Changed = func() {
		select {
		case m.changed <- struct{}{}:
		default: // it is going to be looked at
		}
	}
	c.Tell = func(head []byte) {
		if o := m.overlay.Load(); o != nil {
			o.PublishHead(head)
		}
	}
	var err error
	if m.Service, err = registry.New(ctx, c); err != nil {
		return nil, err
	}
	m.conf, m.follower = c, registry.NewFollower(m.Service, sessions{m})
	return m, nil
}

// Attach fits the sessions to the registry. It comes before anything is served.
func (m *Members) Attach(o *overlay.Service) {
	m.overlay.Store(o)
	o.SubscribeHead(func(ctx context.Context, from string, _ macronode.TenantID, payload []byte) error {
		err := m.follower.Heard(ctx, from, payload)
		if errors.Is(err, registry.ErrKnown) {
			return gossip.ErrKnown
		}
		return err
	})
	o.OnPeer(func(node string, up bool) {
		if up {
			m.follower.Ask(node)
		}
	})
}

// PeerRoutes are what peers may ask for.
func (m *Members) PeerRoutes() []macronode.Route { return m.follower.Routes(overlay.Name) }

// Follow keeps the registry in step with the other nodes', and the sessions in step
// with the registry, until ctx ends.
func (m *Members) Follow(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { m.refresh(ctx) })
	return m.follower.Serve(ctx)
}

// refresh takes over what the registry names as peers, whenever that changed.
func (m *Members) refresh(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
			if err := m.overlay.Load().Refresh(); err != nil {
				m.conf.Log.Error("peers could not be taken from the registry", "event", "registry.peers", "service", overlay.Name, "error", err)
			}
		}
	}
}

// source is the registry as one that names peers.
type source struct{ m *Members }

// Source is the registry as one that names peers.
func (m *Members) Source() overlay.Source { return source{m} }

// Name implements overlay.Source.
func (source) Name() string { return "registry" }

// Peers implements overlay.Source: the nodes by name, without this one, up to a bound.
func (s source) Peers() (list []overlay.Peer) {
	state := s.m.State()
	if state == nil {
		return nil
	}
	for _, it := range state.Items() {
		d := it.Desc.Node
		if d == nil || d.NodeID == s.m.conf.NodeID {
			continue
		}
		if len(list) == maxPeers {
			s.m.conf.Log.Warn("the registry names more nodes than one node has sessions with", "event", "registry.peers", "most", maxPeers)
			break
		}
		list = append(list, overlay.Peer{Addr: d.Addr, NodeID: d.NodeID})
	}
	return list
}

// Barred reports whether the registry has revoked a node: whoever else names it, it
// is no peer.
func (m *Members) Barred(nodeID string) bool {
	state := m.State()
	return state != nil && state.Revoked(nodeID)
}

// sessions are those with other nodes, as the registry wants them.
type sessions struct{ m *Members }

// Active implements registry.Peers.
func (s sessions) Active() []string { return s.m.overlay.Load().Active() }

// Ask implements registry.Peers.
func (s sessions) Ask(ctx context.Context, peer string, from uint64) ([]byte, error) {
	l, err := s.m.overlay.Load().Session(peer)
	if err != nil {
		return nil, err
	}
	args := []macronode.Arg{{Name: "from", Value: strconv.FormatUint(from, 10)}}
	return l.Call(ctx, registry.OpFollow, args, nil, registry.MaxFollowBytes)
}
