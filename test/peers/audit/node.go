// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package audit races the audit log with Tessera's POSIX driver, and measures
// what it promises besides.
package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/store/seglog"
	"github.com/rustyonions/macronode/internal/svc/audit"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

// writer is the node_id in the records.
const writer = "b3:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// log is the node's audit log, as the node makes it, on a disk: its service, with
// hybrid checkpoints, over its log segments and its metadata.
type log struct {
	*audit.Service
	tree  atomic.Pointer[tree.Tree]
	keys  []audit.LogKey
	end   context.CancelFunc
	ended chan error
}

// signers are a hybrid key's halves.
func signers() ([]audit.LogKey, error) {
	pub, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	pq, pqSecret, err := mldsa44.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	origin := tree.Origin(writer)
	return []audit.LogKey{
		{Key: tlog.Key{Name: origin, Type: tlog.Ed25519, Public: pub}, Sign: func(m []byte) ([]byte, error) { return ed25519.Sign(secret, m), nil }},
		{Key: tlog.Key{Name: origin, Type: tlog.MLDSA44, Public: pq.Bytes()}, Sign: func(m []byte) ([]byte, error) {
			sig := make([]byte, mldsa44.SignatureSize)
			return sig, mldsa44.SignTo(pqSecret, m, nil, true, sig)
		}},
	}, nil
}

func public(keys []audit.LogKey) (out []tlog.Key) {
	for _, k := range keys {
		out = append(out, k.Key)
	}
	return out
}

// openTree opens a log's tree on the disk.
func openTree(ctx context.Context, dir string, keys []audit.LogKey) (*tree.Tree, func() error, error) {
	kv, err := pebblekv.Open(pebblekv.Config{FS: disk.Real(), Dir: filepath.Join(dir, "meta")})
	if err != nil {
		return nil, nil, err
	}
	segments, _, err := seglog.Open(seglog.Config{FS: disk.Real(), Dir: filepath.Join(dir, "log")})
	if err != nil {
		return nil, nil, errors.Join(err, kv.Close())
	}
	t, _, err := tree.Open(ctx, tree.Config{Log: segments, KV: kv, Writer: writer}, public(keys)...)
	shut := func() error { return errors.Join(segments.Close(), kv.Close()) }
	if err != nil {
		return nil, nil, errors.Join(err, shut())
	}
	return t, shut, nil
}

// start runs the service until stop.
func start(ctx context.Context, dir string, queue int) (*log, error) {
	keys, err := signers()
	if err != nil {
		return nil, err
	}
	l := &log{keys: keys, ended: make(chan error, 1)}
	l.Service = audit.New(audit.Config{
		Open: func(ctx context.Context) (*tree.Tree, func() error, error) {
			t, shut, err := openTree(ctx, dir, keys)
			l.tree.Store(t)
			return t, shut, err
		},
		Keys: func(string) ([]audit.LogKey, error) { return keys, nil }, Metrics: metrics.New(false), Queue: queue,
		Settings: audit.Settings{CollapseAbove: math.MaxInt32},
	})
	ctx, l.end = context.WithCancel(ctx)
	go func() { l.ended <- l.Serve(ctx) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.Ready(ctx) != nil {
		select {
		case <-tick.C:
		case err := <-l.ended:
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return l, nil
}

func (l *log) stop() error {
	l.end()
	return <-l.ended
}

// event becomes a record of about 300 bytes more than the two hashes and the writer
// need: what a caller's event weighs.
func event(i int) macronode.AuditEvent {
	var id [16]byte
	for at := range id {
		id[at] = byte(i >> (at % 8))
	}
	return macronode.AuditEvent{
		Stream: "tenant/01ARZ3NDEKTSV4RRFFQ69G5FAV", Kind: "object.put", Actor: "cap:" + hex.EncodeToString(id[:]), Subject: "object/b3:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		Attrs: map[string]any{"bytes": 4096, "phase": "end", "status": 201, "why": "a text of some length, so that the event is as large as those of others"},
	}
}
