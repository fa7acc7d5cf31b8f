// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"github.com/rustyonions/macronode/internal/buildinfo"
	"github.com/rustyonions/macronode/internal/config"
)

// Version is the /version document of this binary, without a node.
func Version() buildinfo.Version {
	return buildinfo.Read().Document("", buildinfo.Config{}, posture(config.Default()))
}

// posture is what of post-quantum cryptography is in force.
func posture(c config.Config) buildinfo.PQ {
	return buildinfo.PQ{KEX: c.Server.TLS.PQ, Signatures: "hybrid"}
}
