// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"

	"github.com/rustyonions/macronode/internal/config/document"
)

// Features says which optional parts this binary was built with.
type Features struct{ ZK, Arti, Amnesia bool }

// claim is a setting that asks for something this build may not have.
type claim struct {
	key   string
	asked bool
	name  string
	tag   string // build tag; "" where no build has it yet
	built bool
}

// claims lists what c asks for. A part that becomes finished leaves this list, or
// gains a way to say so.
func claims(c *Config, f Features) []claim {
	list := []claim{
		{"zk.enabled", c.ZK.Enabled, "zk", "zk", f.ZK},
		{"amnesia.enabled", c.Amnesia.Enabled, "amnesia", "amnesia", f.Amnesia},
		{"tor.enabled", c.Tor.Enabled, "arti", "arti", f.Arti},
		{"econ.enable_ledger", c.Econ.EnableLedger, "the ledger", "", false},
		{"econ.enable_wallet", c.Econ.EnableWallet, "the wallet", "", false},
		{"econ.enable_rewarder", c.Econ.EnableRewarder, "the rewarder", "", false},
		{"data.metadata", c.Data.Metadata != embedded, "a metadata store other than \"embedded\"", "", false},
		{"data.objects", c.Data.Objects != embedded, "an object store other than \"embedded\"", "", false},
	}
	return list
}

// features refuses what this build does not have, or has only the beginnings of.
func (v *validator) features() {
	for _, cl := range claims(v.c, v.built) {
		if !cl.asked {
			continue
		}
		text := fmt.Sprintf("%s is not finished in this version", cl.name)
		if cl.tag != "" && !cl.built {
			text = fmt.Sprintf("%s is not built in; it needs a build with -tags %s", cl.name, cl.tag)
		}
		v.Add(document.ClassFeature, lineOf(v.places, cl.key), cl.key, "%s", text)
	}
}
