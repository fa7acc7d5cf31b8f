// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"encoding/hex"
	"io"
	"strconv"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/overlay/announce"
)

// The operations between nodes.
const (
	OpFetch     macronode.Op = "overlay.fetch"
	OpAnnounced macronode.Op = "overlay.announced"
)

// appID is the overlay's app_proto_id on OAP/1.
const appID = 5

// Arguments of OpFetch.
const (
	argAddr  = "addr"
	argOff   = "off"
	argN     = "n"
	argGroup = "group"
	argProof = "proof"
)

// Objects is this node's own store: it asks nobody else.
type Objects interface {
	// Local opens the tenant's object; NotFound where it is not here.
	Local(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (Local, error)
}

// Local is an object of this node.
type Local interface {
	Size() int64
	ContentType() string
	// WriteSlice is b3.WriteSlice of the object.
	WriteSlice(w io.Writer, group int, off, n int64) (int64, error)
	io.Closer
}

// Holder answers peers from this node's store.
type Holder struct {
	service string
	node    string
	objects Objects
	book    *announce.Book
	secrets atomic.Pointer[announce.Secrets]
	m       Metrics
}

// NewHolder returns a Holder that has nothing for anybody until SetSecrets. service
// is the name under which its routes stand, node this node's id.
func NewHolder(service, node string, o Objects, b *announce.Book, m Metrics) *Holder {
	m.fill()
	return &Holder{service: service, node: node, objects: o, book: b, m: m}
}

// SetSecrets makes s hold for calls that begin from now on; nil: nothing is given.
func (h *Holder) SetSecrets(s *announce.Secrets) { h.secrets.Store(s) }

// Routes are the operations that peers call.
func (h *Holder) Routes() []macronode.Route {
	get := macronode.Binding{
		Op: OpFetch, Service: h.service, Method: "GET", Pattern: "/v1/overlay/objects/{addr}", OAP: appID,
		Action: "overlay:peer", Resource: macronode.NodeResource,
		Class: macronode.CoreRead, Cost: 1, MaxBody: macronode.BodyNone, Streaming: true,
		Doc: macronode.Doc{
			Summary: "For other nodes: an object that this one announced, as Bao slices of its end and of a range",
			Query: []macronode.Param{
				{Name: argOff, Type: "integer", Text: "where the range begins", Required: true},
				{Name: argN, Type: "integer", Text: "its bytes; 0: none", Required: true},
				{Name: argGroup, Type: "integer", Text: "0 or 4: leaves of 1 or 16 KiB", Required: true},
				{Name: argProof, Type: "string", Text: "that the node knows the tenant's announcement secret, 64 hex digits", Required: true},
			},
			ResponseType: b3.SliceMediaType,
			Kinds:        []macronode.Kind{macronode.NotFound, macronode.Integrity},
		},
	}
	all := get
	all.Op, all.Pattern = OpAnnounced, "/v1/overlay/announced"
	all.Doc = macronode.Doc{Summary: "For other nodes: keyed hashes of the objects that this one announces", ResponseType: "application/octet-stream"}
	return []macronode.Route{{Binding: get, Handler: h.fetch}, {Binding: all, Handler: h.announced}}
}

// peerOnly refuses everyone but other nodes. Policy says so too; this holds whatever
// a policy says.
func peerOnly(a *macronode.Admitted) error {
	if a.Principal.Kind != macronode.PeerNode || a.Principal.Node == "" {
		return macronode.Errorf(macronode.Denied, "this is for other nodes")
	}
	return nil
}

func (h *Holder) announced(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := peerOnly(a); err != nil {
		return nil, err
	}
	s := h.book.Summary()
	return &macronode.Reply{Status: 200, ContentType: "application/octet-stream", Stream: s, Length: s.Bytes()}, nil
}

func (h *Holder) fetch(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := peerOnly(a); err != nil {
		return nil, err
	}
	q, err := parseQuestion(a)
	if err != nil {
		return nil, err
	}
	// Who does not know the secret is told what it would be told of an object that
	// is not here.
	key, ok := h.secrets.Load().Key(a.Tenant.ID)
	if !ok {
		return nil, notFound()
	}
	if want := key.Proof(a.Principal.Node, h.node, q.addr); !want.Equal(&q.proof) {
		h.m.count(outcomeRefused)
		return nil, notFound()
	}
	o, err := h.objects.Local(ctx, a.Tenant.ID, q.addr)
	if err != nil {
		return nil, err
	}
	p := &parts{o: o, q: q}
	p.plan()
	if a.ReplyBytes != macronode.NoLimit && p.length > a.ReplyBytes {
		_ = o.Close() // it was not read
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", p.length, a.ReplyBytes)
	}
	h.m.count(outcomeAnswered)
	return &macronode.Reply{Status: 200, ContentType: o.ContentType(), Stream: p, Length: p.length}, nil
}

// question is what a peer asks for.
type question struct {
	addr  b3.Addr
	off   int64
	n     int64
	group int
	proof announce.Proof
}

func parseQuestion(a *macronode.Admitted) (q question, err error) {
	bad := func(name string) error {
		return macronode.Errorf(macronode.Malformed, "%s is missing or malformed", name)
	}
	if q.addr, err = b3.Parse(a.Arg(argAddr)); err != nil {
		return q, bad(argAddr)
	}
	if q.off, err = strconv.ParseInt(a.Arg(argOff), 10, 64); err != nil || q.off < 0 {
		return q, bad(argOff)
	}
	if q.n, err = strconv.ParseInt(a.Arg(argN), 10, 64); err != nil || q.n < 0 {
		return q, bad(argN)
	}
	switch a.Arg(argGroup) {
	case "0":
		q.group = b3.SliceChunks
	case "4":
		q.group = b3.SliceGroups
	default:
		return q, bad(argGroup)
	}
	text := a.Arg(argProof)
	if len(text) != 2*len(q.proof) {
		return q, bad(argProof)
	}
	if _, err := hex.Decode(q.proof[:], []byte(text)); err != nil {
		return q, bad(argProof)
	}
	return q, nil
}

// parts is the answer: one or two slices.
type parts struct {
	o      Local
	q      question
	slices []Want
	length int64
}

// plan decides which slices the answer has.
func (p *parts) plan() {
	size := p.o.Size()
	last := Want{Off: size, Group: b3.SliceGroups}
	if size <= b3.GroupBytes {
		last.Off, last.N = 0, size
	}
	p.slices = append(p.slices, last)
	if size > b3.GroupBytes && p.q.n > 0 && p.q.off < size {
		p.slices = append(p.slices, Want{Off: p.q.off, N: p.q.n, Group: p.q.group}.of(size))
	}
	for _, s := range p.slices {
		p.length += b3.SliceBytes(size, s.Group, s.Off, s.N)
	}
}

// WriteTo implements macronode.Stream.
func (p *parts) WriteTo(w io.Writer) (total int64, err error) {
	for _, s := range p.slices {
		n, err := p.o.WriteSlice(w, s.Group, s.Off, s.N)
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// Close implements macronode.Stream.
func (p *parts) Close() error { return p.o.Close() }
