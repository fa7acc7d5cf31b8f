// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mem

import (
	"bytes"
	"hash/maphash"
)

// owner marks the nodes that one transaction made and may still change in place.
type owner struct{ _ byte }

// node is immutable once its owner has committed.
type node struct {
	key, value  []byte
	prio        uint64
	left, right *node
	own         *owner
}

// nodeBytes is what a key costs beyond its key and value.
const nodeBytes = 112

func (n *node) cost() int64 { return int64(len(n.key)+len(n.value)) + nodeBytes }

// mutable returns n itself where o owns it, else a copy that o owns.
func (n *node) mutable(o *owner) *node {
	if n.own == o {
		return n
	}
	c := *n
	c.own = o
	return &c
}

func get(n *node, key []byte) *node {
	for n != nil {
		switch c := bytes.Compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n
		}
	}
	return nil
}

// set returns the tree with key at value, and the change in cost. The tree keeps
// both slices. Priorities come from a keyed hash, so nobody outside can choose
// keys that unbalance it.
func set(n *node, o *owner, seed maphash.Seed, key, value []byte) (*node, int64) {
	if n == nil {
		n = &node{key: key, value: value, prio: maphash.Bytes(seed, key), own: o}
		return n, n.cost()
	}
	c := bytes.Compare(key, n.key)
	n = n.mutable(o)
	var d int64
	switch {
	case c == 0:
		d = int64(len(value) - len(n.value))
		n.value = value
	case c < 0:
		if n.left, d = set(n.left, o, seed, key, value); n.left.prio > n.prio {
			l := n.left // set made it ours
			n.left, l.right = l.right, n
			n = l
		}
	default:
		if n.right, d = set(n.right, o, seed, key, value); n.right.prio > n.prio {
			r := n.right
			n.right, r.left = r.left, n
			n = r
		}
	}
	return n, d
}

// del returns the tree without key, which must be in it.
func del(n *node, o *owner, key []byte) *node {
	c := bytes.Compare(key, n.key)
	if c == 0 {
		return join(n.left, n.right, o)
	}
	n = n.mutable(o)
	if c < 0 {
		n.left = del(n.left, o, key)
	} else {
		n.right = del(n.right, o, key)
	}
	return n
}

// join merges two trees, every key of l before every key of r.
func join(l, r *node, o *owner) *node {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.prio > r.prio:
		l = l.mutable(o)
		l.right = join(l.right, r, o)
		return l
	default:
		r = r.mutable(o)
		r.left = join(l, r.left, o)
		return r
	}
}

// ascend calls f for the nodes in [lo, hi), nil hi being the end, and reports
// whether f wants more.
func ascend(n *node, lo, hi []byte, f func(*node) bool) bool {
	for n != nil {
		if bytes.Compare(n.key, lo) < 0 {
			n = n.right
			continue
		}
		if hi != nil && bytes.Compare(n.key, hi) >= 0 {
			n = n.left
			continue
		}
		if !ascend(n.left, lo, hi, f) || !f(n) {
			return false
		}
		n = n.right
	}
	return true
}

// descend is ascend from the other end.
func descend(n *node, lo, hi []byte, f func(*node) bool) bool {
	for n != nil {
		if bytes.Compare(n.key, lo) < 0 {
			n = n.right
			continue
		}
		if hi != nil && bytes.Compare(n.key, hi) >= 0 {
			n = n.left
			continue
		}
		if !descend(n.right, lo, hi, f) || !f(n) {
			return false
		}
		n = n.left
	}
	return true
}
