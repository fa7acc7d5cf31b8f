// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
)

// proofs are the discharges that came with a token, not read yet: one list for
// each wire, of which one is empty.
type proofs struct {
	texts []string // HTTP: X-Ron-Discharge
	raws  [][]byte // OAP/1: the CBOR sequence behind the token
}

func (p *proofs) len() int { return max(len(p.texts), len(p.raws)) }

// load reads them. One that is in no accepted form is TokenMalformed, like the
// token itself.
func (p *proofs) load() ([]*capability.Token, error) {
	out := make([]*capability.Token, 0, p.len())
	for _, text := range p.texts {
		d, err := capability.Parse(text)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	for _, raw := range p.raws {
		d, err := capability.Decode(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// read reads a call's token and finds its discharges.
func read(c *macronode.Call) (*capability.Token, *proofs, error) {
	p := &proofs{}
	if c.Wire != macronode.WireOAP {
		tok, err := capability.ParseBytes(c.Token)
		p.texts = c.Discharges
		return tok, p, err
	}
	first, rest, err := capability.CutToken(c.Token)
	if err != nil {
		return nil, nil, err
	}
	tok, err := capability.Decode(first)
	if err != nil {
		return nil, nil, err
	}
	for len(rest) > 0 {
		if len(p.raws) == capability.MaxDischarges {
			return nil, nil, macronode.Errorf(macronode.TokenDischarge, "there are too many discharges")
		}
		if first, rest, err = capability.CutToken(rest); err != nil {
			return nil, nil, err
		}
		p.raws = append(p.raws, first)
	}
	return tok, p, nil
}
