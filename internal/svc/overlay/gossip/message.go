// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"encoding/binary"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// Lane is what a message is about. Lanes share nothing: one that is full takes no
// room from another.
type Lane uint8

// The lanes, in the order in which they are sent.
const (
	Revocations   Lane = 1 + iota // signed news of revoked capabilities
	Registry                      // the head of the registry
	Announcements                 // who holds which objects of a tenant
	endLane
)

var laneNames = [endLane]string{"", "revocations", "registry", "announcements"}

func (l Lane) String() string { return laneNames[l] }

func (l Lane) valid() bool { return l >= Revocations && l < endLane }

// LaneNames are the names of all lanes.
func LaneNames() []string { return laneNames[1:] }

// rule is what holds for a lane.
type rule struct {
	hops    uint8 // most times that a message is sent on
	payload int   // bytes, at most
	depth   int   // messages that wait for a peer, at most
	bytes   int   // that they have, at most
	seen    int   // ids kept to know a message again
}

var rules = [endLane]rule{
	Revocations: {hops: MaxHops, payload: 48 << 10, depth: 256, bytes: 512 << 10, seen: 16 << 10},
	Registry:    {hops: MaxHops, payload: 4 << 10, depth: 4, bytes: 32 << 10, seen: 1 << 10},
	// What a node holds is of use to who has a session with it: it goes one hop,
	// and so comes from the node that it speaks of.
	Announcements: {hops: 0, payload: 4 << 10, depth: 1 << 10, bytes: 1 << 20, seen: 16 << 10},
}

// MaxHops is how many times a message is sent on by those who did not make it.
const MaxHops = 8

// MaxPayload is the most that a message of the lane carries, in bytes.
func (l Lane) MaxPayload() int { return rules[l].payload }

// Sizes of a batch: the messages of one call.
const (
	MaxBatchBytes    = 64 << 10
	MaxBatchMessages = 256

	batchFormat = 1
	headBytes   = 1 + 1 + 32 + 16 + 4
)

// Node is a node id without its "b3:".
type Node [32]byte

// ParseNode reads a node id as config has it.
func ParseNode(id string) (Node, error) {
	a, err := b3.Parse(id)
	return Node(a), err
}

// String is the node id.
func (n Node) String() string { return b3.Addr(n).String() }

// Message is one thing that is told. Its identity is what it says, whoever
// brings it.
type Message struct {
	Lane   Lane
	Hops   uint8 // how often it may be sent on
	Origin Node  // who made it; not proven where it was sent on
	Tenant macronode.TenantID
	// Payload of no bytes asks, on the lane of revocations, to compare lists.
	Payload []byte
}

// id is the same for the same thing said by the same node.
type id [16]byte

func (m *Message) id() id {
	b := make([]byte, 0, headBytes+len(m.Payload))
	b = append(b, byte(m.Lane))
	b = append(b, m.Origin[:]...)
	b = append(b, m.Tenant[:]...)
	sum := b3.Sum(append(b, m.Payload...))
	return id(sum[:16])
}

func (m *Message) size() int { return headBytes + len(m.Payload) }

// ErrMalformed says that bytes are no batch.
var ErrMalformed = errors.New("the batch is malformed")

// appendTo writes m behind b.
func (m *Message) appendTo(b []byte) []byte {
	b = append(b, byte(m.Lane), m.Hops)
	b = append(b, m.Origin[:]...)
	b = append(b, m.Tenant[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Payload)))
	return append(b, m.Payload...)
}

// Encode makes a batch of messages that fit one.
func Encode(list []Message) []byte {
	n := 1
	for i := range list {
		n += list[i].size()
	}
	b := append(make([]byte, 0, n), batchFormat)
	for i := range list {
		b = list[i].appendTo(b)
	}
	return b
}

// Parse reads a batch. The payloads are parts of b. What is over a limit, or of a
// lane that does not exist, makes the whole batch ErrMalformed.
func Parse(b []byte) ([]Message, error) {
	if len(b) == 0 || len(b) > MaxBatchBytes || b[0] != batchFormat {
		return nil, ErrMalformed
	}
	b = b[1:]
	list := make([]Message, 0, min(len(b)/headBytes, MaxBatchMessages))
	for len(b) > 0 {
		if len(b) < headBytes || len(list) == MaxBatchMessages {
			return nil, ErrMalformed
		}
		m := Message{Lane: Lane(b[0]), Hops: b[1], Origin: Node(b[2:34]), Tenant: macronode.TenantID(b[34:50])}
		n := binary.BigEndian.Uint32(b[50:headBytes])
		b = b[headBytes:]
		if !m.Lane.valid() || m.Hops > rules[m.Lane].hops || uint64(n) > uint64(min(len(b), rules[m.Lane].payload)) {
			return nil, ErrMalformed
		}
		m.Payload, b = b[:n:n], b[n:]
		list = append(list, m)
	}
	return list, nil
}
