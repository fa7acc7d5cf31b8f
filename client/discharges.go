// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"strings"

	"github.com/rustyonions/macronode/capability"
)

// proofs are discharges, read; bound says that one is bound already, to the
// token as it is.
type proofs struct {
	list  []*capability.Token
	bound bool
}

func readProofs(texts []string) (p proofs, err error) {
	for i, text := range texts {
		d, err := capability.Parse(text)
		if err != nil {
			return p, fmt.Errorf("discharge %d: %w", i+1, err)
		}
		p.list = append(p.list, d)
		p.bound = p.bound || d.Bound()
	}
	return p, nil
}

// header is the value of X-Ron-Discharge beside tok.
func (p *proofs) header(tok *capability.Token) (string, error) {
	var texts []string
	for i, d := range p.list {
		if !d.Bound() {
			var err error
			if d, err = tok.Bind(d); err != nil {
				return "", fmt.Errorf("discharge %d: %w", i+1, err)
			}
		}
		texts = append(texts, d.Text())
	}
	return strings.Join(texts, ","), nil
}
