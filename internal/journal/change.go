// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// Kind says what happened. Kinds are stored: the list is append-only.
type Kind uint8

// The kinds of change.
const (
	ObjectPut     Kind = iota + 1 // the tenant refers to Addr
	ObjectDeleted                 // the tenant does not refer to Addr any more
	NameSet                       // Name points at Addr, as Version
	NameDeleted                   // Name points at nothing, as of Version
	TenantPurged                  // everything of the tenant is gone
	numKinds
)

// MaxNameBytes bounds Change.Name.
const MaxNameBytes = 512

// Change is one change. Seq and TenantSeq are given by Record.
type Change struct {
	Seq       uint64 // node-wide, growing
	TenantSeq uint64 // growing within the tenant
	Tenant    macronode.TenantID
	Kind      Kind
	Addr      b3.Addr // zero where the kind has none
	Name      string
	Version   uint64 // of the name
	At        time.Time
}

const (
	changeVersion = 1
	changeBytes   = 1 + 1 + 16 + 8 + 8 + b3.Size + 8
)

var errChange = errors.New("journal: a change has a known kind, a tenant, and a name of at most 512 bytes")

// ErrDamaged says that the journal is not what this package wrote.
var ErrDamaged = fmt.Errorf("journal: damaged: %w", store.ErrCorrupt)

func (c *Change) encode() ([]byte, error) {
	if c.Kind == 0 || c.Kind >= numKinds || c.Tenant.IsZero() || len(c.Name) > MaxNameBytes {
		return nil, errChange
	}
	b := make([]byte, 0, changeBytes+len(c.Name))
	b = append(b, changeVersion, byte(c.Kind))
	b = append(b, c.Tenant[:]...)
	b = binary.BigEndian.AppendUint64(b, c.TenantSeq)
	b = binary.BigEndian.AppendUint64(b, uint64(c.At.UnixMilli()))
	b = append(b, c.Addr[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Version)
	return append(b, c.Name...), nil
}

func decode(seq uint64, b []byte) (Change, error) {
	if len(b) < changeBytes || len(b) > changeBytes+MaxNameBytes || b[0] != changeVersion || b[1] == 0 || Kind(b[1]) >= numKinds {
		return Change{}, ErrDamaged
	}
	c := Change{Seq: seq, Kind: Kind(b[1])}
	b = b[2:]
	b = b[copy(c.Tenant[:], b):]
	c.TenantSeq = binary.BigEndian.Uint64(b)
	c.At = time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:]))).UTC()
	b = b[16:]
	b = b[copy(c.Addr[:], b):]
	c.Version = binary.BigEndian.Uint64(b)
	c.Name = string(b[8:])
	if c.Tenant.IsZero() {
		return Change{}, ErrDamaged
	}
	return c, nil
}
