// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package register reads the registry of a node, and brings proposals and signed
// decisions to it.
//
//	r := register.New(c)
//	head, err := r.Head(ctx)
//	made, err := r.Propose(ctx, proposal, "")
//	sigs, err := registry.Sign(id, address, registry.Approve, key.Halves()...)
//	made, err = r.Approve(ctx, address, sigs)
//
// What a node says is not believed where it can be verified: Head is signed by the
// node that it names, Log is proven against that head, and Export verifies offline
// with registry.Verify.
package register

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/registry"
)

// Registry is the registry as a node has it. It is safe for concurrent use.
type Registry struct{ c *client.Client }

// New returns the registry of c's node. Nothing is asked of it yet.
func New(c *client.Client) *Registry { return &Registry{c} }

// Head is where the chain ends.
type Head struct {
	registry.Head
	Writer string // id of the node that commits
	First  uint64 // place of the first entry that the node has kept
	Signed []byte // the head as the writer signed it; nil: it has not yet
}

// ErrUnverified says that what the node answered does not verify.
var ErrUnverified = errors.New("what the node says of its registry does not verify")

func unverified(err error) error { return fmt.Errorf("%w: %w", ErrUnverified, err) }

// Head asks where the chain ends. A signed head that is not good for the writer, or
// says something else than the rest of the answer, is ErrUnverified.
func (r *Registry) Head(ctx context.Context) (*Head, error) {
	var out struct {
		Registry string          `json:"registry"`
		Size     uint64          `json:"size"`
		Head     string          `json:"head"`
		State    string          `json:"state"`
		Signers  string          `json:"signers"`
		Tree     string          `json:"tree"`
		TSMS     int64           `json:"ts_ms"`
		Writer   string          `json:"writer"`
		First    uint64          `json:"first"`
		Signed   json.RawMessage `json:"signed"`
	}
	if err := r.c.JSON(ctx, "GET", "/v1/registry/head", "", nil, &out); err != nil {
		return nil, err
	}
	h := &Head{Head: registry.Head{V: 1, Registry: out.Registry, Size: out.Size, Head: out.Head, State: out.State, Signers: out.Signers, Tree: out.Tree, TSMS: out.TSMS},
		Writer: out.Writer, First: out.First, Signed: out.Signed}
	if len(out.Signed) == 0 {
		return h, nil
	}
	signed, err := registry.ParseHead(out.Signed)
	if err != nil {
		return nil, unverified(err)
	}
	if !signed.Same(&h.Head) || signed.NodeID != out.Writer {
		return nil, unverified(errors.New("the signed head says something else"))
	}
	h.Head = *signed
	return h, nil
}

// Log is entries that were proven to be in the chain that Head ends.
type Log struct {
	Entries []registry.Entry
	Head    *registry.Head
	First   uint64 // place of the first entry that the node has kept
}

// Log reads at most limit entries from a place on; at least one where there is one.
// What is not proven against the head that comes with it is ErrUnverified.
func (r *Registry) Log(ctx context.Context, from uint64, limit int) (*Log, error) {
	var out struct {
		registry.Range
		First  uint64          `json:"first"`
		Signed json.RawMessage `json:"signed"`
	}
	path := "/v1/registry/log?from=" + strconv.FormatUint(from, 10) + "&limit=" + strconv.Itoa(limit)
	if err := r.c.JSON(ctx, "GET", path, "", nil, &out); err != nil {
		return nil, err
	}
	head, err := registry.ParseHead(out.Signed)
	if err != nil {
		return nil, unverified(err)
	}
	list, err := out.Check(head)
	if err == nil && out.From != from {
		err = errors.New("it is another part of the log")
	}
	if err != nil {
		return nil, unverified(err)
	}
	return &Log{list, head, out.First}, nil
}

// Export copies the whole chain to w, for registry.Verify.
func (r *Registry) Export(ctx context.Context, w io.Writer) error {
	resp, err := r.c.Do(ctx, client.Request{Method: "GET", Path: "/v1/registry/export"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// Descriptor is a descriptor that is registered.
type Descriptor struct {
	Addr       string               `json:"addr"`
	Seq        uint64               `json:"seq"` // of the entry that put it there
	Descriptor *registry.Descriptor `json:"descriptor"`
}

// verify holds the descriptor to its address.
func (d *Descriptor) verify() error {
	if d.Descriptor == nil {
		return unverified(errors.New("a descriptor is missing"))
	}
	a, err := d.Descriptor.Addr()
	if err != nil {
		return unverified(err)
	}
	if a.String() != d.Addr {
		return unverified(errors.New("a descriptor has another address"))
	}
	return nil
}

// Descriptors lists what is registered, of one kind or, where it is empty, of all;
// and the node ids that were revoked.
func (r *Registry) Descriptors(ctx context.Context, kind registry.Kind) (list []Descriptor, revoked []string, err error) {
	for cursor := ""; ; {
		var page struct {
			Size        uint64       `json:"size"`
			Descriptors []Descriptor `json:"descriptors"`
			Revoked     []string     `json:"revoked"`
			Cursor      string       `json:"cursor"`
		}
		q := url.Values{"limit": {"1000"}}
		if kind != "" {
			q.Set("kind", string(kind))
		}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if err := r.c.JSON(ctx, "GET", "/v1/registry/descriptors?"+q.Encode(), "", nil, &page); err != nil {
			return nil, nil, err
		}
		for i := range page.Descriptors {
			if err := page.Descriptors[i].verify(); err != nil {
				return nil, nil, err
			}
		}
		list, revoked = append(list, page.Descriptors...), append(revoked, page.Revoked...)
		if page.Cursor == "" {
			return list, revoked, nil
		}
		if page.Cursor == cursor || len(list) > registry.MaxDescriptors {
			return nil, nil, errors.New("the node's list does not go on")
		}
		cursor = page.Cursor
	}
}

// Descriptor is the one of that kind and name.
func (r *Registry) Descriptor(ctx context.Context, k registry.Key) (*Descriptor, error) {
	d := &Descriptor{}
	if err := r.c.JSON(ctx, "GET", "/v1/registry/descriptors/"+url.PathEscape(string(k.Kind))+"/"+url.PathEscape(k.Name), "", nil, d); err != nil {
		return nil, err
	}
	return d, d.verify()
}

// Note is who decided what, and when.
type Note struct {
	Key      string            `json:"key"`
	Decision registry.Decision `json:"decision"`
	Reason   string            `json:"reason,omitempty"`
	By       string            `json:"by"`
	TSMS     int64             `json:"ts_ms"`
}

// Proposal is a proposal as the node has it.
type Proposal struct {
	ID        string          `json:"id"`
	State     string          `json:"state"` // open, committed, rejected, superseded, withdrawn, expired
	Reason    string          `json:"reason,omitempty"`
	By        string          `json:"by"`
	OpenedMS  int64           `json:"opened_ms"`
	ClosedMS  int64           `json:"closed_ms,omitempty"`
	Seq       uint64          `json:"seq,omitempty"` // of the entry that committed it
	Approved  []string        `json:"approved"`
	Rejected  []string        `json:"rejected"`
	Threshold int             `json:"threshold"`
	Of        int             `json:"of"`
	Missing   []string        `json:"missing"` // new keys that have not signed
	Notes     []Note          `json:"notes"`
	Text      json.RawMessage `json:"proposal"` // canonical JSON

	Proposal *registry.Proposal `json:"-"`
}

// verify reads the proposal and holds it to its address.
func (p *Proposal) verify() error {
	var err error
	if p.Proposal, err = registry.ParseProposal(p.Text); err != nil {
		return unverified(err)
	}
	a, err := p.Proposal.Addr()
	if err != nil {
		return unverified(err)
	}
	if a.String() != p.ID {
		return unverified(errors.New("a proposal has another address"))
	}
	return nil
}

func (r *Registry) proposal(ctx context.Context, method, path, key string, in any) (*Proposal, error) {
	p := &Proposal{}
	if err := r.c.JSON(ctx, method, "/v1/registry/proposals"+path, key, in, p); err != nil {
		return nil, err
	}
	return p, p.verify()
}

// Proposals lists proposals that are open, or in another state ("closed": any other).
func (r *Registry) Proposals(ctx context.Context, state string) (all []Proposal, err error) {
	for cursor := ""; ; {
		var page struct {
			Proposals []Proposal `json:"proposals"`
			Cursor    string     `json:"cursor"`
		}
		q := url.Values{"state": {state}, "limit": {"64"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if err := r.c.JSON(ctx, "GET", "/v1/registry/proposals?"+q.Encode(), "", nil, &page); err != nil {
			return nil, err
		}
		for i := range page.Proposals {
			if err := page.Proposals[i].verify(); err != nil {
				return nil, err
			}
		}
		all = append(all, page.Proposals...)
		if page.Cursor == "" {
			return all, nil
		}
		if page.Cursor == cursor {
			return nil, errors.New("the node's list does not go on")
		}
		cursor = page.Cursor
	}
}

// Proposal is the one of that address.
func (r *Registry) Proposal(ctx context.Context, id b3.Addr) (*Proposal, error) {
	p, err := r.proposal(ctx, "GET", "/"+id.String(), "", nil)
	if err == nil && p.ID != id.String() {
		return nil, unverified(errors.New("it is another proposal"))
	}
	return p, err
}

// Propose opens a proposal. key, where not empty, is the Idempotency-Key.
func (r *Registry) Propose(ctx context.Context, p *registry.Proposal, key string) (*Proposal, error) {
	return r.proposal(ctx, "POST", "", key, p)
}

type decision struct {
	Signatures []registry.Signature `json:"signatures"`
	Reason     string               `json:"reason,omitempty"`
}

// Approve brings signatures that approve a proposal. With enough of them it is
// committed, which the answer's State says.
func (r *Registry) Approve(ctx context.Context, id b3.Addr, list []registry.Signature) (*Proposal, error) {
	return r.proposal(ctx, "POST", "/"+id.String()+"/approvals", "", decision{Signatures: list})
}

// Reject brings signatures that reject a proposal.
func (r *Registry) Reject(ctx context.Context, id b3.Addr, list []registry.Signature, reason string) (*Proposal, error) {
	return r.proposal(ctx, "POST", "/"+id.String()+"/rejections", "", decision{list, reason})
}

// Withdraw closes a proposal that was made with this client's capability.
func (r *Registry) Withdraw(ctx context.Context, id b3.Addr, reason string) (*Proposal, error) {
	return r.proposal(ctx, "POST", "/"+id.String()+"/withdraw", "", struct {
		Reason string `json:"reason,omitempty"`
	}{reason})
}

// SignWith has the node sign a decision with a key of its key service
// ("KMS:key/NAME", of purpose registry). Nothing is decided by that.
func (r *Registry) SignWith(ctx context.Context, id b3.Addr, d registry.Decision, key string) ([]registry.Signature, error) {
	var out decision
	err := r.c.JSON(ctx, "POST", "/v1/registry/proposals/"+id.String()+"/sign", "", struct {
		Key      string            `json:"key"`
		Decision registry.Decision `json:"decision"`
	}{key, d}, &out)
	return out.Signatures, err
}

// Event is something that happened: an entry that was committed, or a change of a
// proposal.
type Event struct {
	Kind string          // "entry", "proposal", or "lost": changes of proposals that were missed
	ID   string          // place of an entry
	Data json.RawMessage // JSON
}

const maxEventBytes = 1 << 20

// Watch calls f with what happens, until ctx ends, f fails or the stream breaks off,
// which is io.ErrUnexpectedEOF. after is the place of the last entry that was seen;
// negative: from now on.
func (r *Registry) Watch(ctx context.Context, after int64, f func(Event) error) error {
	path := "/v1/registry/watch"
	if after >= 0 {
		path += "?after=" + strconv.FormatInt(after, 10)
	}
	resp, err := r.c.Do(ctx, client.Request{Method: "GET", Path: path, Header: http.Header{"Accept": {"text/event-stream"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readEvents(resp.Body, f)
}

// readEvents reads server-sent events as the registry writes them.
func readEvents(body io.Reader, f func(Event) error) error {
	lines := newLines(body)
	var e Event
	for {
		line, err := lines.next()
		if err != nil {
			return err
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) {
		case "id":
			e.ID = string(value)
		case "event":
			e.Kind = string(value)
		case "data":
			e.Data = bytes.Clone(value)
		case "":
			if len(line) == 0 && e.Kind != "" {
				if err := f(e); err != nil {
					return err
				}
			}
			if len(line) == 0 {
				e = Event{}
			}
		}
	}
}
