// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// Kind is what a descriptor describes.
type Kind string

// The kinds.
const (
	KindNode    Kind = "node"
	KindService Kind = "service"
	KindRegion  Kind = "region"
	KindSigners Kind = "signers"
)

// SignersName is the name of the one descriptor of kind signers.
const SignersName = "signers"

// Kinds lists them.
func Kinds() []Kind { return []Kind{KindNode, KindRegion, KindService, KindSigners} }

// Key names a descriptor: at any time there is at most one of a kind and name.
type Key struct {
	Kind Kind
	Name string
}

// String is "KIND/NAME".
func (k Key) String() string { return string(k.Kind) + "/" + k.Name }

// ParseKey reads "KIND/NAME".
func ParseKey(s string) (Key, error) {
	kind, name, ok := strings.Cut(s, "/")
	k := Key{Kind(kind), name}
	if !ok || !k.valid() {
		return Key{}, malformed("a descriptor is named KIND/NAME; the kinds are %v", Kinds())
	}
	return k, nil
}

func (k Key) valid() bool {
	return slices.Contains(Kinds(), k.Kind) && ValidName(k.Name) && (k.Kind != KindSigners || k.Name == SignersName)
}

// Descriptor says what a node, a service, a region or the set of signers is. The
// member of its kind is set, and no other.
type Descriptor struct {
	V       int      `json:"v"` // 1
	Kind    Kind     `json:"kind"`
	Name    string   `json:"name"`
	Node    *Node    `json:"node,omitempty"`
	Service *Service `json:"service,omitempty"`
	Region  *Region  `json:"region,omitempty"`
	Signers *Signers `json:"signers,omitempty"`
	// Labels are for people and their tools: at most MaxLabels, values of one
	// line of at most MaxTextBytes.
	Labels map[string]string `json:"labels,omitempty"`
}

// Node is a node of the installation.
type Node struct {
	// NodeID is the hash of the node's key ("b3:…"): who holds the key is the node.
	// No two descriptors have the same.
	NodeID string `json:"node_id"`
	// Addr is HOST:PORT of its OAP/1 listener, for sessions between nodes.
	Addr string `json:"addr"`
	// Region names a descriptor of kind region; "": none.
	Region string `json:"region,omitempty"`
}

// Service is something that nodes offer.
type Service struct {
	// Nodes name descriptors of kind node, in order, each once; 1 to 64.
	Nodes []string `json:"nodes"`
	// Endpoint is where users find it; "": as the nodes say.
	Endpoint string `json:"endpoint,omitempty"`
}

// Region is a place.
type Region struct {
	Title string `json:"title,omitempty"`
}

// Signers are who may change the registry.
type Signers struct {
	// Threshold is how many distinct names must have signed, at least 1.
	Threshold int `json:"threshold"`
	// Signers are their public keys, in the order of name and version. Two versions
	// of one name are one signer.
	Signers []bundle.Anchor `json:"signers"`
	// Writer is the id of the node that commits: it alone orders the chain.
	Writer string `json:"writer"`
}

const maxServiceNodes = 64

// Key names the descriptor.
func (d *Descriptor) Key() Key { return Key{d.Kind, d.Name} }

// ParseDescriptor reads a descriptor, whatever its white space and order of members.
// Errors wrap ErrMalformed.
func ParseDescriptor(text []byte) (*Descriptor, error) {
	var d Descriptor
	if _, err := decode(text, MaxDescriptorBytes, "descriptor", &d); err != nil {
		return nil, err
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return &d, nil
}

// Encode is the descriptor's canonical JSON, whose hash is its address.
func (d *Descriptor) Encode() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return encode(d)
}

// Addr is the descriptor's address.
func (d *Descriptor) Addr() (b3.Addr, error) {
	b, err := d.Encode()
	if err != nil {
		return b3.Addr{}, err
	}
	return b3.Sum(b), nil
}

// Validate reports the first thing wrong with d by itself. What it names is looked
// at by State.Apply.
func (d *Descriptor) Validate() error {
	if d.V != format {
		return malformed("descriptor: format %d, this version reads %d", d.V, format)
	}
	if !d.Key().valid() {
		return malformed("descriptor: kind %.20q, name %.70q: the kinds are %v; a name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, of the signers %q", d.Kind, d.Name, Kinds(), SignersName)
	}
	if (d.Node != nil) != (d.Kind == KindNode) || (d.Service != nil) != (d.Kind == KindService) ||
		(d.Region != nil) != (d.Kind == KindRegion) || (d.Signers != nil) != (d.Kind == KindSigners) {
		return malformed("descriptor %s: it has the member %q, and those of no other kind", d.Key(), d.Kind)
	}
	if len(d.Labels) > MaxLabels {
		return malformed("descriptor %s: %d labels, at most %d are accepted", d.Key(), len(d.Labels), MaxLabels)
	}
	for name, value := range d.Labels {
		if !ValidName(name) {
			return malformed("descriptor %s: a label's name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen", d.Key())
		}
		if err := text("label "+name, value, MaxTextBytes); err != nil {
			return err
		}
	}
	switch d.Kind {
	case KindNode:
		return d.Node.validate()
	case KindService:
		return d.Service.validate()
	case KindRegion:
		return text("the region's title", d.Region.Title, MaxTextBytes)
	}
	return d.Signers.validate()
}

func (n *Node) validate() error {
	if _, err := addr("node_id", n.NodeID); err != nil {
		return err
	}
	if n.Region != "" && !ValidName(n.Region) {
		return malformed("region: not the name of one")
	}
	return validHostPort(n.Addr)
}

// validHostPort takes an IP address or a host's name with a port: what a signed
// descriptor says must mean the same to whoever reads it.
func validHostPort(s string) error {
	bad := malformed("addr is HOST:PORT, at most %d bytes", MaxTextBytes)
	if len(s) > MaxTextBytes {
		return bad
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		if a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.String() != s {
			return bad
		}
		return nil
	}
	host, port, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || n == 0 || strconv.FormatUint(n, 10) != port || host == "" || len(host) > 253 {
		return bad
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return bad
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return bad
			}
		}
	}
	// All digits would be read as an address by some, as a name by others.
	if last := host[strings.LastIndexByte(host, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return bad
	}
	return nil
}

func (s *Service) validate() error {
	if len(s.Nodes) == 0 || len(s.Nodes) > maxServiceNodes {
		return malformed("nodes: %d names, 1 to %d are accepted", len(s.Nodes), maxServiceNodes)
	}
	for i, n := range s.Nodes {
		if !ValidName(n) || i > 0 && s.Nodes[i-1] >= n {
			return malformed("nodes: names of nodes, in order, each once")
		}
	}
	return text("endpoint", s.Endpoint, MaxTextBytes)
}

// role is the set as package bundle has it.
func (s *Signers) role() *bundle.Role {
	return &bundle.Role{Threshold: s.Threshold, Anchors: s.Signers}
}

func (s *Signers) validate() error {
	if len(s.Signers) > MaxSigners {
		return malformed("signers: %d keys, at most %d are accepted", len(s.Signers), MaxSigners)
	}
	if err := s.role().Validate("registry"); err != nil {
		return malformed("signers: %v", err)
	}
	for i := 1; i < len(s.Signers); i++ {
		a, b := &s.Signers[i-1], &s.Signers[i]
		if a.Name > b.Name || a.Name == b.Name && a.Version >= b.Version {
			return malformed("signers: they stand in the order of name and version")
		}
	}
	_, err := addr("writer", s.Writer)
	return err
}
