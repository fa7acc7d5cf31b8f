// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/tlog"
)

// vouchers are the witnesses whose word is wanted.
type vouchers struct {
	files  []string
	quorum int
	keys   []tlog.Key
}

func (v *vouchers) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&v.files, "witness", nil, "file with keys of witnesses in note form, who must have cosigned the checkpoint; may be repeated")
	c.Flags().IntVar(&v.quorum, "quorum", 0, "how many of the witnesses must have cosigned; 0: all")
}

func (v *vouchers) read() (err error) {
	if len(v.files) == 0 {
		if v.quorum != 0 {
			return cli.Usagef("--quorum needs --witness")
		}
		return nil
	}
	if v.keys, err = readKeys(v.files); err != nil {
		return err
	}
	if n := len(v.names(nil)); v.quorum < 0 || v.quorum > n {
		return cli.Usagef("--quorum is at most %d, the number of witnesses", n)
	}
	return nil
}

// names are those of the witnesses whose key s has; of all where s is nil.
func (v *vouchers) names(s *tlog.Signed) (out []string) {
	for _, k := range v.keys {
		if (s == nil || s.Has(k)) && !slices.Contains(out, k.Name) {
			out = append(out, k.Name)
		}
	}
	return out
}

// check reports who cosigned, and whether they are enough.
func (v *vouchers) check(s *tlog.Signed) ([]string, error) {
	if len(v.keys) == 0 {
		return nil, nil
	}
	want := v.quorum
	if want == 0 {
		want = len(v.names(nil))
	}
	c, err := tlog.Open(s.Note, v.keys...)
	if err != nil || c.Checkpoint != s.Checkpoint {
		return nil, fmt.Errorf("no witness cosigned the checkpoint of %d records; %d must have", s.Size, want)
	}
	by := v.names(c)
	if len(by) < want {
		return nil, fmt.Errorf("%d witnesses cosigned the checkpoint of %d records; %d must have", len(by), s.Size, want)
	}
	return by, nil
}
