// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package idem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// Fingerprint tells requests apart.
type Fingerprint [sha256.Size]byte

// Hash is the fingerprint of a request made of the given parts, in order.
func Hash(parts ...string) Fingerprint {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		io.WriteString(h, p)
	}
	return Fingerprint(h.Sum(nil))
}

// Request is the fingerprint of a whole small call: its op, its arguments on
// either wire, its preconditions, the type of its body and the body. The order
// of query arguments does not count.
func Request(a *macronode.Admitted, body []byte) Fingerprint {
	parts := make([]string, 0, 16)
	parts = append(parts, string(a.Binding.Op), a.Header.Get("Content-Type"),
		a.Header.Get("If-Match"), a.Header.Get("If-None-Match"))
	var names []string
	for seg := range strings.SplitSeq(a.Binding.Pattern, "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok {
			names = append(names, strings.TrimSuffix(strings.TrimSuffix(name, "}"), "..."))
		}
	}
	a.ArgNames(func(name string) { names = append(names, name) })
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		parts = append(parts, name, a.Arg(name))
	}
	return Hash(append(parts, string(body))...)
}

// Handler is a route's work under a claim. Where it changes something it calls
// c.Keep with its reply in the transaction of the change. c is nil where the
// call has no key, which Keep does not mind. body is the handler's to keep.
type Handler func(ctx context.Context, a *macronode.Admitted, body []byte, c *Claim) (*macronode.Reply, error)

// maxWrapBody bounds what Wrap reads where the binding names no number; the
// wall's own limit is lower on every route.
const maxWrapBody = 16 << 20

// Wrap makes a route's handler of h: it reads the body, answers replays and
// mismatches itself, and keeps final refusals. A reply that h did not keep
// (nothing was changed) is kept after h returned.
func (k *Keeper) Wrap(h Handler) macronode.Handler {
	return func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
		body, err := readBody(a)
		if err != nil {
			return nil, err
		}
		var c *Claim
		if a.IdempotencyKey != "" {
			var replay *macronode.Reply
			c, replay, err = k.Begin(ctx, a, Request(a, body))
			if err != nil || replay != nil {
				return replay, err
			}
			defer c.Release()
		}
		r, err := h(ctx, a, body, c)
		if err != nil {
			return nil, c.Fail(ctx, a, err)
		}
		if c != nil && !c.kept {
			err := k.kv.Update(context.WithoutCancel(ctx), func(tx store.Tx) error { return c.Keep(tx, r) })
			if err != nil {
				return nil, store.Refusal(err)
			}
		}
		return r, nil
	}
}

// readBody reads a bounded body whole. What ends early is the client's doing.
func readBody(a *macronode.Admitted) ([]byte, error) {
	if a.Body == nil {
		return nil, nil
	}
	limit := int64(maxWrapBody)
	if m := a.Binding.MaxBody; m > 0 {
		limit = m
	}
	if a.Length > limit {
		return nil, macronode.Errorf(macronode.TooLarge, "the body may have %d bytes", limit)
	}
	var buf bytes.Buffer
	buf.Grow(int(min(max(a.Length, 512), 64<<10)))
	n, err := buf.ReadFrom(io.LimitReader(a.Body, limit+1))
	switch {
	case err != nil:
		if e, ok := errors.AsType[*macronode.Error](err); ok {
			return nil, e
		}
		return nil, macronode.Wrap(macronode.ClientGone, "", err)
	case n > limit:
		return nil, macronode.Errorf(macronode.TooLarge, "the body may have %d bytes", limit)
	case a.Length >= 0 && n < a.Length:
		return nil, macronode.Wrap(macronode.ClientGone, "", io.ErrUnexpectedEOF)
	}
	return buf.Bytes(), nil
}
