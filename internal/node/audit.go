// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/pem"
	"fmt"
	"path/filepath"

	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/store/seglog"
	"github.com/rustyonions/macronode/internal/svc/audit"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
	"github.com/rustyonions/macronode/tlog"
)

// makeAudit makes ron-audit; it opens its log when it is run.
func (n *Node) makeAudit(c *config.Config) {
	key := c.Audit.Key
	n.auditKey.Store(&key)
	segment, reserve := int64(c.Audit.SegmentBytes), int64(c.Audit.ReserveBytes)
	n.audit = audit.New(audit.Config{
		Open: func(ctx context.Context) (*tree.Tree, func() error, error) { return n.openAudit(ctx, segment, reserve) },
		Keys: n.auditKeys, Log: n.log, Metrics: n.metrics, Queue: int(c.Audit.QueueRecords), Settings: auditSettings(c),
	})
}

func auditSettings(c *config.Config) audit.Settings {
	return audit.Settings{CheckpointInterval: c.Audit.CheckpointInterval, CollapseAbove: int(c.Audit.CollapseAbove)}
}

// setAudit applies what a reload changes.
func (n *Node) setAudit(c *config.Config) {
	key := c.Audit.Key
	n.auditKey.Store(&key)
	n.audit.SetSettings(auditSettings(c))
}

// openAudit opens the log and says what it found there.
func (n *Node) openAudit(ctx context.Context, segment, reserve int64) (*tree.Tree, func() error, error) {
	log, found, err := seglog.Open(seglog.Config{FS: n.dir.FS, Dir: filepath.Join(n.dir.At(datadir.AuditDir), "log"), SegmentBytes: segment, Reserve: reserve, Log: n.log})
	if err != nil {
		return nil, nil, fmt.Errorf("audit: %w", err)
	}
	earlier, err := n.nodeIDs()
	var keys []tlog.Key
	if err == nil {
		keys, err = n.auditVerifiers(earlier)
	}
	var t *tree.Tree
	var had tree.Found
	if err == nil {
		t, had, err = tree.Open(ctx, tree.Config{Log: log, KV: n.kv, Writer: n.nodeID, Earlier: earlier}, keys...)
	}
	if err != nil {
		n.log.Error("the audit log cannot be opened", "event", "audit_open", "service", audit.Name, "error", err)
		_ = log.Close()
		return nil, nil, err
	}
	n.log.Info("the audit log is open", "event", "audit_open", "service", audit.Name, "records", had.Size, "records_read", had.Tail,
		"segments", found.Segments, "log_bytes", found.Bytes, "torn_bytes", found.TornBytes)
	return t, log.Close, nil
}

// nodeIDs are the ids that the node has had, by the versions of its key.
func (n *Node) nodeIDs() ([]string, error) {
	info, err := n.keys.Key(kms.NodeKey)
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

// auditKeys sign checkpoints: both halves of the newest version.
func (n *Node) auditKeys(origin string) ([]audit.LogKey, error) {
	halves, err := n.keys.Signers(*n.auditKey.Load(), kms.PurposeAudit)
	if err != nil {
		return nil, err
	}
	out := make([]audit.LogKey, 0, len(halves))
	for _, h := range halves {
		k, ok := auditKey(origin, h.Alg(), h.Public())
		if !ok {
			return nil, fmt.Errorf("audit: a key of %s signs no checkpoints", h.Alg())
		}
		out = append(out, audit.LogKey{Key: k, Sign: h.Sign})
	}
	return out, nil
}

// auditVerifiers are the public keys of all versions, under the log's name for each
// id that the node had: the newest checkpoint on disk may be an earlier one's.
func (n *Node) auditVerifiers(ids []string) ([]tlog.Key, error) {
	info, err := n.keys.Key(n.auditKey.Load().Name)
	if err != nil {
		return nil, err
	}
	var out []tlog.Key
	for _, v := range info.Versions {
		for _, p := range v.Public {
			for _, id := range ids {
				if k, ok := auditKey(tree.Origin(id), p.Alg, p.Raw); ok {
					out = append(out, k)
				}
			}
		}
	}
	return out, nil
}

func auditKey(origin, alg string, public []byte) (tlog.Key, bool) {
	k := tlog.Key{Name: origin, Public: public}
	switch alg {
	case primitive.Ed25519.String():
		k.Type = tlog.Ed25519
	case primitive.MLDSA44.String():
		k.Type = tlog.MLDSA44
	}
	return k, k.Check() == nil
}
