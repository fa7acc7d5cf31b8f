// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/hex"
	"slices"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// Op is what a change does.
type Op string

// The changes.
const (
	// OpPut makes Descriptor the one of its kind and name.
	OpPut Op = "put"
	// OpRemove takes the descriptor of Kind and Name away.
	OpRemove Op = "remove"
	// OpRevoke takes a node away and bars its id for good.
	OpRevoke Op = "revoke"
	// OpCheckpoint says that the first Size entries, of which the last has the hash
	// Head, are as they should be, so that a node may drop them.
	OpCheckpoint Op = "checkpoint"
)

// Change is one change of a proposal.
type Change struct {
	Op         Op          `json:"op"`
	Descriptor *Descriptor `json:"descriptor,omitempty"` // put
	Kind       Kind        `json:"kind,omitempty"`       // remove, revoke
	Name       string      `json:"name,omitempty"`       // the same
	// Prev is the address of the descriptor that is replaced or taken away; "" of
	// one that is new. Where another is there, the change does not apply.
	Prev string `json:"prev,omitempty"`
	Size uint64 `json:"size,omitempty"` // checkpoint
	Head string `json:"head,omitempty"` // checkpoint
}

// Key is the descriptor that the change is about; zero of a checkpoint.
func (c *Change) Key() Key {
	if c.Descriptor != nil {
		return c.Descriptor.Key()
	}
	return Key{c.Kind, c.Name}
}

func (c *Change) validate() error {
	put, take, mark := c.Op == OpPut, c.Op == OpRemove || c.Op == OpRevoke, c.Op == OpCheckpoint
	switch {
	case !put && !take && !mark:
		return malformed("change: op is put, remove, revoke or checkpoint")
	case (c.Descriptor != nil) != put, (c.Kind != "" || c.Name != "") != take, (c.Size != 0 || c.Head != "") != mark, mark && c.Prev != "":
		return malformed("change %s: it has the members of its op, and no others", c.Op)
	case mark:
		if c.Size > MaxSize {
			return malformed("checkpoint: a chain has at most %d entries", MaxSize)
		}
		_, err := addr("head", c.Head)
		return err
	case put:
		if err := c.Descriptor.Validate(); err != nil {
			return err
		}
	case !c.Key().valid() || c.Op == OpRevoke && c.Kind != KindNode:
		return malformed("change %s: it names no descriptor", c.Op)
	case c.Kind == KindSigners:
		return malformed("change %s: the signers can be replaced, not taken away", c.Op)
	}
	if c.Prev == "" {
		if take {
			return malformed("change %s: prev is the address of what is taken away", c.Op)
		}
		return nil
	}
	_, err := addr("prev", c.Prev)
	return err
}

// Proposal is what is approved: changes that are made together or not at all.
type Proposal struct {
	V        int    `json:"v"`                  // 1
	Registry string `json:"registry,omitempty"` // its id; "" in the first entry alone
	// Nonce, 32 hex digits, tells a proposal from an earlier one that says the same.
	Nonce  string `json:"nonce"`
	Title  string `json:"title"`
	Reason string `json:"reason,omitempty"`
	// CreatedMS and ExpiresMS are unix milliseconds. After ExpiresMS, at most 30
	// days after CreatedMS, it is not committed any more.
	CreatedMS int64 `json:"created_ms"`
	ExpiresMS int64 `json:"expires_ms"`
	// Supersedes are the addresses of proposals that this one ends by being committed.
	Supersedes []string `json:"supersedes,omitempty"`
	Changes    []Change `json:"changes"`
}

const maxSupersedes = 16

// ParseProposal reads a proposal, whatever its white space and order of members.
// Errors wrap ErrMalformed.
func ParseProposal(text []byte) (*Proposal, error) {
	var p Proposal
	if _, err := decode(text, MaxProposalBytes, "proposal", &p); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return &p, nil
}

// Encode is the proposal's canonical JSON, whose hash is its address.
func (p *Proposal) Encode() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	b, err := encode(p)
	if err == nil && len(b) > MaxProposalBytes {
		err = malformed("proposal of %d bytes, at most %d are accepted", len(b), MaxProposalBytes)
	}
	return b, err
}

// Addr is the proposal's address, by which it is approved.
func (p *Proposal) Addr() (b3.Addr, error) {
	b, err := p.Encode()
	if err != nil {
		return b3.Addr{}, err
	}
	return b3.Sum(b), nil
}

// Validate reports the first thing wrong with p by itself.
func (p *Proposal) Validate() error {
	nonce, err := hex.DecodeString(p.Nonce)
	switch {
	case p.V != format:
		return malformed("proposal: format %d, this version reads %d", p.V, format)
	case err != nil || len(nonce) != nonceBytes || hex.EncodeToString(nonce) != p.Nonce:
		return malformed("proposal: nonce is %d lower-case hex digits", 2*nonceBytes)
	case p.CreatedMS < 0 || p.CreatedMS > bundle.MaxInteger-MaxLifeMS || p.ExpiresMS <= p.CreatedMS || p.ExpiresMS > p.CreatedMS+MaxLifeMS:
		return malformed("proposal: it expires after it was made, by at most 30 days")
	case len(p.Changes) == 0 || len(p.Changes) > MaxChanges:
		return malformed("proposal: %d changes, 1 to %d are accepted", len(p.Changes), MaxChanges)
	case len(p.Supersedes) > maxSupersedes:
		return malformed("proposal: it ends %d others, at most %d are accepted", len(p.Supersedes), maxSupersedes)
	case p.Title == "":
		return malformed("proposal: it has a title")
	}
	if err := text("the title", p.Title, MaxTextBytes); err != nil {
		return err
	}
	if err := text("the reason", p.Reason, MaxReasonBytes); err != nil {
		return err
	}
	if p.Registry != "" {
		if _, err := addr("registry", p.Registry); err != nil {
			return err
		}
	}
	for i, s := range p.Supersedes {
		if _, err := addr("supersedes", s); err != nil {
			return err
		}
		if i > 0 && p.Supersedes[i-1] >= s {
			return malformed("proposal: supersedes stand in order, each once")
		}
	}
	about := make(map[Key]bool, len(p.Changes))
	for i := range p.Changes {
		c := &p.Changes[i]
		if err := c.validate(); err != nil {
			return err
		}
		if about[c.Key()] {
			return malformed("proposal: two changes of %s", c.Key())
		}
		about[c.Key()] = true
	}
	return nil
}

// signers is the set that p would put in place; nil where it leaves the set alone.
func (p *Proposal) signers() *Signers {
	for i := range p.Changes {
		if d := p.Changes[i].Descriptor; d != nil && d.Kind == KindSigners {
			return d.Signers
		}
	}
	return nil
}

// Writer is the id of the node that p would make the writer; "" where p leaves the
// signers alone.
func (p *Proposal) Writer() string {
	if s := p.signers(); s != nil {
		return s.Writer
	}
	return ""
}

// Ends reports whether p, committed, ends the proposal of that address.
func (p *Proposal) Ends(id b3.Addr) bool { return slices.Contains(p.Supersedes, id.String()) }
