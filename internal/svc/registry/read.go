// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/registry"
)

// Pages of lists.
const (
	defaultPage = 100
	maxPage     = 1000
	defaultLog  = 16
)

// Head is the head of the chain as the routes show it.
type Head struct {
	Registry string `json:"registry"` // its id: the hash of the first entry
	Size     uint64 `json:"size"`
	Head     string `json:"head"` // hash of the last entry
	State    string `json:"state"`
	Signers  string `json:"signers"` // address of the set in force
	Tree     string `json:"tree"`
	TSMS     int64  `json:"ts_ms"`
	Writer   string `json:"writer"` // id of the node that commits
	// First is the place of the first entry that is kept.
	First uint64 `json:"first"`
	// Signed is the same, signed by the writer: a DSSE envelope.
	Signed json.RawMessage `json:"signed,omitempty"`
}

// Log is a part of the chain that verifies against the signed head.
type Log struct {
	registry.Range
	First  uint64          `json:"first"` // place of the first entry that is kept
	Signed json.RawMessage `json:"signed"`
}

// Descriptor is a descriptor that is registered.
type Descriptor struct {
	Addr       string               `json:"addr"`
	Seq        uint64               `json:"seq"` // of the entry that put it there
	Descriptor *registry.Descriptor `json:"descriptor"`
}

// DescriptorList is a page of descriptors, in the order of kind and name.
type DescriptorList struct {
	Size        uint64       `json:"size"` // of the chain that this is the state of
	Descriptors []Descriptor `json:"descriptors"`
	Revoked     []string     `json:"revoked"` // node ids that are barred
	Cursor      string       `json:"cursor"`
}

// ProposalList is a page of proposals.
type ProposalList struct {
	Proposals []Proposal `json:"proposals"`
	Cursor    string     `json:"cursor"`
}

func jsonReply(status int, v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return &macronode.Reply{Status: status, ContentType: "application/json", Body: append(b, '\n')}, nil
}

// readBody reads one JSON object with known members alone.
func readBody(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return macronode.Wrap(macronode.Malformed, "the body is not the JSON object that belongs here, or has unknown members", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return macronode.Errorf(macronode.Malformed, "bytes follow the JSON value")
	}
	return nil
}

func (s *Service) getHead(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	s.trees.RLock()
	h := registry.HeadOf(c.State, c.Tree)
	if c.Head != nil { // the tree may have grown since c was shown
		h = *c.Head
	}
	s.trees.RUnlock()
	return jsonReply(200, Head{Registry: h.Registry, Size: h.Size, Head: h.Head, State: h.State, Signers: h.Signers, Tree: h.Tree, TSMS: h.TSMS,
		Writer: c.State.Writer(), First: c.First, Signed: c.Signed})
}

// getLog answers a part of the chain with its proof.
func (s *Service) getLog(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("from", "limit"); err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	from, err := a.NumberArg("from", 0, 0, registry.MaxSize)
	if err != nil {
		return nil, err
	}
	limit, err := a.NumberArg("limit", defaultLog, 1, registry.MaxRange)
	if err != nil {
		return nil, err
	}
	if from >= c.State.Size() {
		return nil, macronode.Errorf(macronode.NotFound, "the log has %d entries", c.State.Size())
	}
	if c.Signed == nil {
		return nil, macronode.Errorf(macronode.Unavailable, "the head is not signed yet")
	}
	out := Log{Range: registry.Range{From: from, Size: c.State.Size()}, First: c.First, Signed: c.Signed}
	if out.Entries, err = s.entries(ctx, c, from, int(limit)); err != nil { //nolint:gosec // at most MaxRange
		return nil, err
	}
	if out.Path, err = s.prove(c, from+uint64(len(out.Entries))-1); err != nil {
		return nil, err
	}
	return jsonReply(200, out)
}

// prove is the path of an entry in the tree of c, which may be smaller than the tree
// is by now.
func (s *Service) prove(c *chain.Chain, seq uint64) ([]string, error) {
	s.trees.RLock()
	defer s.trees.RUnlock()
	path, err := c.Tree.Prove(seq, c.State.Size())
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return path, nil
}

// entries reads a part of the chain: at least one entry, and of more what fits.
func (s *Service) entries(ctx context.Context, c *chain.Chain, from uint64, limit int) (list []json.RawMessage, err error) {
	if from > 0 && from < c.First {
		return nil, macronode.Errorf(macronode.NotFound, "entries before %d were dropped behind a checkpoint; the export has what verifies the rest", c.First)
	}
	if from == 0 {
		list = append(list, c.Genesis)
		if from++; c.First > 0 {
			return list, nil
		}
	}
	bytesLeft := registry.MaxRangeBytes
	err = s.kv.View(ctx, func(r store.Reader) error {
		return r.Scan(chain.EntryKey(from), chain.EntryKey(c.State.Size()), func(_, v []byte) bool {
			if len(list) >= limit || len(list) > 0 && len(v) > bytesLeft {
				return false
			}
			bytesLeft -= len(v)
			list = append(list, bytes.Clone(v))
			return true
		})
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	return list, nil
}

func (s *Service) listDescriptors(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("kind", "cursor", "limit"); err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	kind := registry.Kind(a.Arg("kind"))
	if kind != "" && !slices.Contains(registry.Kinds(), kind) {
		return nil, macronode.Errorf(macronode.Malformed, "kind is one of %v", registry.Kinds())
	}
	limit, err := a.NumberArg("limit", defaultPage, 1, maxPage)
	if err != nil {
		return nil, err
	}
	out := DescriptorList{Size: c.State.Size(), Descriptors: []Descriptor{}, Revoked: []string{}}
	after := a.Arg("cursor")
	if after == "" {
		out.Revoked = append(out.Revoked, c.State.RevokedNodes()...)
	} else if _, err := registry.ParseKey(after); err != nil {
		return nil, macronode.Errorf(macronode.Malformed, "the cursor is not one of this list's")
	}
	for _, it := range c.State.Items() {
		key := it.Desc.Key().String()
		if kind != "" && it.Desc.Kind != kind || strings.Compare(key, after) <= 0 {
			continue
		}
		if uint64(len(out.Descriptors)) == limit {
			out.Cursor = out.Descriptors[len(out.Descriptors)-1].Descriptor.Key().String()
			break
		}
		out.Descriptors = append(out.Descriptors, Descriptor{it.Addr.String(), it.Seq, it.Desc})
	}
	return jsonReply(200, out)
}

func (s *Service) getDescriptor(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	it, ok := c.State.Get(registry.Key{Kind: registry.Kind(a.Arg("kind")), Name: a.Arg("name")})
	if !ok {
		return nil, macronode.Errorf(macronode.NotFound, "there is no such descriptor")
	}
	etag := "\"" + it.Addr.String() + "\""
	if slices.Contains(a.Header["If-None-Match"], etag) {
		return &macronode.Reply{Status: 304, Header: macronode.Header{"Etag": {etag}}}, nil
	}
	r, err := jsonReply(200, Descriptor{it.Addr.String(), it.Seq, it.Desc})
	if err == nil {
		r.Header = macronode.Header{"Etag": {etag}}
	}
	return r, err
}

func (s *Service) getProposal(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	id, err := proposalID(a)
	if err != nil {
		return nil, err
	}
	h, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.reply(200, c.State, h)
}

// listProposals lists those that are open by address, or else those that were closed,
// the newest first.
func (s *Service) listProposals(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("state", "cursor", "limit"); err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	state := a.Arg("state")
	if state == "" {
		state = stateOpen
	}
	if !slices.Contains(append(states(), "closed"), state) {
		return nil, macronode.Errorf(macronode.Malformed, "state is one of %v, or closed for all but open", states())
	}
	limit, err := a.NumberArg("limit", 16, 1, 64)
	if err != nil {
		return nil, err
	}
	out := ProposalList{Proposals: []Proposal{}}
	err = s.kv.View(ctx, func(r store.Reader) error {
		ids, next, err := proposalPage(r, state, a.Arg("cursor"), int(limit)) //nolint:gosec // at most 64
		if err != nil {
			return err
		}
		out.Cursor = next
		for _, id := range ids {
			h, err := readHeld(r, id)
			if err != nil {
				return err
			}
			out.Proposals = append(out.Proposals, s.shown(c.State, h))
		}
		return nil
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	return jsonReply(200, out)
}

// proposalPage finds a page of ids, and the cursor of the next.
func proposalPage(r store.Reader, state, cursor string, limit int) (ids []b3.Addr, next string, err error) {
	prefix, scan := closedPrefix, r.ScanDesc
	if state == stateOpen {
		prefix, scan = openPrefix, r.Scan
	}
	lo, hi := []byte(prefix), chain.After([]byte(prefix))
	if cursor != "" {
		at, err := parseCursor(prefix, cursor)
		if err != nil {
			return nil, "", err
		}
		if lo = append(at, 0); state != stateOpen {
			lo, hi = []byte(prefix), at
		}
	}
	var last []byte
	var bad error
	err = scan(lo, hi, func(k, _ []byte) bool {
		if len(k) < len(prefix)+b3.Size {
			return true
		}
		id := b3.Addr(k[len(k)-b3.Size:])
		if state != stateOpen && state != "closed" {
			h, err := readHeld(r, id)
			if err != nil {
				bad = err
				return false
			}
			if h.rec.State != state {
				return true
			}
		}
		if len(ids) == limit {
			next = makeCursor(last[len(prefix):])
			return false
		}
		ids, last = append(ids, id), bytes.Clone(k)
		return true
	})
	return ids, next, errors.Join(err, bad)
}

func makeCursor(tail []byte) string {
	if len(tail) == b3.Size {
		return b3.Addr(tail).String()
	}
	return b3.Addr(tail[8:]).String() + "." + strconv.FormatUint(binary.BigEndian.Uint64(tail), 10)
}

func parseCursor(prefix, cursor string) ([]byte, error) {
	bad := macronode.Errorf(macronode.Malformed, "the cursor is not one of this list's")
	text, ms, timed := strings.Cut(cursor, ".")
	id, err := b3.Parse(text)
	if err != nil || timed != (prefix == closedPrefix) {
		return nil, bad
	}
	if !timed {
		return idKey(prefix, id), nil
	}
	n, err := macronode.ParseNumber("cursor", ms, 0, bundle.MaxInteger)
	if err != nil {
		return nil, bad
	}
	return closedKey(int64(n), id), nil //nolint:gosec // at most 2^53
}

// export answers the whole chain.
func (s *Service) export(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	return &macronode.Reply{ContentType: "application/x-ndjson", Length: -1, Stream: &exporter{c, s.kv, ctx, cancel}}, nil
}

// exporter writes an export.
type exporter struct {
	c      *chain.Chain
	kv     store.KV
	ctx    context.Context // of the call
	cancel context.CancelFunc
}

// WriteTo implements macronode.Stream.
func (x *exporter) WriteTo(w io.Writer) (int64, error) { return x.c.Export(x.ctx, x.kv, w) }

// Close implements macronode.Stream.
func (x *exporter) Close() error {
	x.cancel()
	return nil
}
