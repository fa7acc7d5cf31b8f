// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package shares

import (
	"sync"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// Gathering collects the shares of a set until there are enough. It may be used
// from any goroutine.
type Gathering struct {
	set        *Set
	commitment secretsharing.SecretCommitment

	mu   sync.Mutex
	have map[int]group.Scalar // by index
}

// Gather begins a gathering.
func (s *Set) Gather() (*Gathering, error) {
	c, err := s.elements()
	if err != nil {
		return nil, err
	}
	return &Gathering{set: s, commitment: c, have: make(map[int]group.Scalar)}, nil
}

// Need is how many different shares it takes.
func (g *Gathering) Need() int { return g.set.Threshold }

// Have is how many there are.
func (g *Gathering) Have() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.have)
}

// Add takes a share's text, which it wipes. ErrShare, ErrForeign, ErrWrong,
// ErrDuplicate: nothing was taken, and the gathering goes on.
func (g *Gathering) Add(text []byte) error {
	defer clear(text)
	index, value, err := g.set.decode(text)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.have[index] != nil:
		err = ErrDuplicate
	case !secretsharing.Verify(uint(g.set.Threshold-1), shareOf(index, value), g.commitment):
		err = ErrWrong
	default:
		g.have[index] = value
		return nil
	}
	locked.Erase(value)
	return err
}

func shareOf(index int, value group.Scalar) secretsharing.Share {
	return secretsharing.Share{ID: value.Group().NewScalar().SetUint64(uint64(index)), Value: value}
}

// Root is the root secret, in a, once there are enough shares; nil before.
func (g *Gathering) Root(a *locked.Arena) (*locked.Secret, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.have) < g.set.Threshold {
		return nil, nil
	}
	list := make([]secretsharing.Share, 0, len(g.have))
	for index, value := range g.have {
		list = append(list, shareOf(index, value))
	}
	secret, err := secretsharing.Recover(uint(g.set.Threshold-1), list)
	if err != nil {
		return nil, err
	}
	defer locked.Erase(secret)
	return rootOf(a, secret)
}

// Wipe forgets every share.
func (g *Gathering) Wipe() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, value := range g.have {
		locked.Erase(value)
	}
	clear(g.have)
}
