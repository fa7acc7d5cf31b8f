// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/node/parts"
	nodekey "github.com/rustyonions/macronode/internal/svc/kms/identity"
	"github.com/rustyonions/macronode/internal/svc/naming"
	"github.com/rustyonions/macronode/name/document"
)

func namingLimits(c *config.Config) naming.Limits {
	return naming.Limits{MaxNames: c.Naming.MaxNames, MaxHistory: c.Naming.MaxHistory}
}

// makeNaming makes ron-naming, which answers with svc-storage's objects and signs
// with the node's own key.
func (n *Node) makeNaming(c *config.Config) (err error) {
	n.naming, err = naming.New(naming.Config{KV: n.kv, Idem: n.idem, Objects: n.storage, Audit: n.audit, Limits: namingLimits(c), Journal: parts.NameChanges{J: n.journal},
		Signer:  func() (document.Signer, error) { return nodekey.Of(n.keys) },
		Metrics: naming.NewMetrics(n.metrics), Log: n.log})
	return err
}
