// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auditor

import (
	"context"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/store/seglog"
	"github.com/rustyonions/macronode/internal/svc/audit"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
	"github.com/rustyonions/macronode/tlog"
)

// open opens the log and says what it found there.
func (a *Auditor) open(ctx context.Context, segment, reserve int64) (*tree.Tree, func() error, error) {
	log, found, err := seglog.Open(seglog.Config{FS: a.d.Dir.FS, Dir: filepath.Join(a.d.Dir.At(datadir.AuditDir), "log"), SegmentBytes: segment, Reserve: reserve, Log: a.d.Log})
	if err != nil {
		return nil, nil, fmt.Errorf("audit: %w", err)
	}
	earlier, err := nodeIDs(a.d.Keys)
	var keys []tlog.Key
	if err == nil {
		keys, err = verifiers(a.d.Keys, a.key.Load().Name, earlier)
	}
	var t *tree.Tree
	var had tree.Found
	if err == nil {
		t, had, err = tree.Open(ctx, tree.Config{Log: log, KV: a.d.KV, Writer: a.d.NodeID, Earlier: earlier}, keys...)
	}
	if err != nil {
		a.d.Log.Error("the audit log cannot be opened", "event", "audit_open", "service", audit.Name, "error", err)
		_ = log.Close()
		return nil, nil, err
	}
	a.d.Log.Info("the audit log is open", "event", "audit_open", "service", audit.Name, "records", had.Size, "records_read", had.Tail,
		"segments", found.Segments, "log_bytes", found.Bytes, "torn_bytes", found.TornBytes)
	return t, log.Close, nil
}

// nodeIDs are the ids that the node has had, by the versions of its key.
func nodeIDs(keys *kms.Store) ([]string, error) {
	info, err := keys.Key(kms.NodeKey)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, v := range info.Versions {
		if p, _ := pem.Decode([]byte(v.Public[0].SPKIPEM)); p != nil {
			ids = append(ids, kms.NodeIDOf(p.Bytes))
		}
	}
	return ids, nil
}

// signers sign checkpoints: both halves of the newest version.
func (a *Auditor) signers(origin string) ([]audit.LogKey, error) {
	halves, err := a.d.Keys.Signers(*a.key.Load(), kms.PurposeAudit)
	if err != nil {
		return nil, err
	}
	out := make([]audit.LogKey, 0, len(halves))
	for _, h := range halves {
		k, ok := keyOf(origin, h.Alg(), h.Public())
		if !ok {
			return nil, fmt.Errorf("audit: a key of %s signs no checkpoints", h.Alg())
		}
		out = append(out, audit.LogKey{Key: k, Sign: h.Sign})
	}
	return out, nil
}

// verifiers are the public keys of all versions, under the log's name for each
// id that the node had: the newest checkpoint on disk may be an earlier one's.
func verifiers(keys *kms.Store, name string, ids []string) ([]tlog.Key, error) {
	info, err := keys.Key(name)
	if err != nil {
		return nil, err
	}
	var out []tlog.Key
	for _, v := range info.Versions {
		for _, p := range v.Public {
			for _, id := range ids {
				if k, ok := keyOf(tree.Origin(id), p.Alg, p.Raw); ok {
					out = append(out, k)
				}
			}
		}
	}
	return out, nil
}

func keyOf(origin, alg string, public []byte) (tlog.Key, bool) {
	k := tlog.Key{Name: origin, Public: public}
	switch alg {
	case primitive.Ed25519.String():
		k.Type = tlog.Ed25519
	case primitive.MLDSA44.String():
		k.Type = tlog.MLDSA44
	}
	return k, k.Check() == nil
}

// versionsOf are the keys of each version of the audit key, the newest first.
func versionsOf(keys *kms.Store, name, origin string) (out [][]tlog.Key, err error) {
	info, err := keys.Key(name)
	if err != nil {
		return nil, err
	}
	for _, v := range slices.Backward(info.Versions) {
		var version []tlog.Key
		for _, p := range v.Public {
			if k, ok := keyOf(origin, p.Alg, p.Raw); ok {
				version = append(version, k)
			}
		}
		out = append(out, version)
	}
	return out, nil
}

// PublicKeys verify today's checkpoints; nil where the keystore does not give them.
func (a *Auditor) PublicKeys() (out []tlog.Key) {
	keys, err := a.signers(tree.Origin(a.d.NodeID))
	if err != nil {
		return nil
	}
	for _, k := range keys {
		out = append(out, k.Key)
	}
	return out
}
