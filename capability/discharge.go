// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"crypto/subtle"

	"github.com/rustyonions/macronode"
)

// What may be wrong with the number of discharges.
const (
	areTooMany = "there are too many discharges"
	isAbsent   = "a discharge is missing"
	isUnneeded = "a discharge belongs to none of the token's third-party caveats, or came twice"
)

func noDischarge(why string) error {
	return &macronode.Error{Kind: macronode.TokenDischarge, Detail: why}
}

// discharge finds each third-party caveat of t, whose tags are good, its one
// discharge, verifies that and takes over what it says. None may be left over:
// what proves nothing is a mistake of the sender, or an attempt to cost work.
func (v *Verified) discharge(t *Token, tags *chain, discharges []*Token) error {
	if len(discharges) > MaxDischarges {
		return noDischarge(areTooMany)
	}
	total := 0
	for _, d := range discharges {
		total += len(d.caveats)
	}
	if total > MaxDischargeCaveats {
		return noDischarge("the discharges have too many caveats")
	}
	var used [MaxDischarges]bool
	met := 0
	for i := range t.caveats {
		c := &t.caveats[i]
		if c.typ != ThirdParty {
			continue
		}
		p := c.party()
		j := p.find(t, discharges, &used)
		if j < 0 {
			return noDischarge(isAbsent)
		}
		used[j] = true
		met++
		if err := v.admit(t, &tags[i], &p, discharges[j]); err != nil {
			return err
		}
	}
	if met != len(discharges) {
		return noDischarge(isUnneeded)
	}
	return nil
}

// find is the index of the first unused discharge of the caveat; -1: none.
func (p *party) find(t *Token, discharges []*Token, used *[MaxDischarges]bool) int {
	nonce := ticketNonce(p.ticket)
	for j, d := range discharges {
		if !used[j] && d.tenant == t.tenant && d.kid == p.keyID && d.nonce == nonce {
			return j
		}
	}
	return -1
}

// admit verifies d, the discharge of the caveat p of t, before which stood tag.
func (v *Verified) admit(t *Token, tag *words, p *party, d *Token) error {
	material := tag.bytes()
	r, ok := unseal(vidContext, &material, []byte(p.vid))
	clear(material[:])
	defer clear(r)
	if !ok || len(r) != KeyBytes {
		return noDischarge("the third-party caveat holds no key for its discharge")
	}
	key := DerivedKey((*[KeyBytes]byte)(r))
	defer key.Wipe()
	var tags chain
	if !d.walk(key, &tags, 0) {
		return noDischarge("a discharge does not verify")
	}
	if !d.Bound() {
		return noDischarge("a discharge is not bound to the token")
	}
	own := d.caveats[:len(d.caveats)-1]
	for i := range own {
		if typ := own[i].typ; typ == ThirdParty || typ == Discharge {
			return noDischarge("a discharge has a third party of its own or is bound twice")
		}
	}
	want, have := binding(&t.tag, &tags[len(own)]), d.caveats[len(own)].Hash()
	if subtle.ConstantTimeCompare(want[:], have[:]) != 1 {
		return noDischarge("a discharge is bound to another token")
	}
	for i := range d.caveats {
		v.Discharged = append(v.Discharged, tags[i].id())
	}
	v.Discharged = append(v.Discharged, tags[len(d.caveats)].id())
	v.limit(own, &tags)
	v.discharges = append(v.discharges, own)
	return nil
}

// MaxSequenceBytes is the length of the longest CBOR sequence of a token and
// its discharges.
const MaxSequenceBytes = (1 + MaxDischarges) * MaxTokenBytes

// sequenceDepth is how deep a token may nest: itself, its caveats, a caveat, and
// the value.
const sequenceDepth = 3 + maxDepth

// CutToken splits the first token off the CBOR sequence of a token and its
// discharges, as OAP/1 carries them. It looks at the form of CBOR alone, so that
// what follows the first token costs next to nothing until that has verified.
func CutToken(seq []byte) (first []byte, rest []byte, err error) {
	if len(seq) > MaxSequenceBytes {
		return nil, nil, malformed("it is too long")
	}
	r := reader{s: string(seq[:min(len(seq), MaxTokenBytes)])}
	if r.skip(sequenceDepth); r.why != "" {
		return nil, nil, malformed(r.why)
	}
	return seq[:r.pos], seq[r.pos:], nil
}
