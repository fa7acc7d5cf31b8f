// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"fmt"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// MaxRecordBytes bounds the plain text of one record of a Vault.
const MaxRecordBytes = 2 << 20

// Errors of a Vault.
var (
	// ErrNoRecord: there is no record of that name.
	ErrNoRecord = errors.New("kms: no such record")
	// ErrVaultClosed: the vault was closed.
	ErrVaultClosed = errors.New("kms: the keystore is closed")
)

// DamagedError says that one record is not what was last written: torn, flipped,
// missing, or an older copy put back. The other records are not concerned.
type DamagedError struct {
	Name string // of the record
	Why  string // never anything of its content
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("kms: record %s is damaged: %s", e.Name, e.Why)
}

// Vault keeps sealed records, and beside them one public document. A record's
// name is "key/NAME" or "obj/NAME@vN". It may be used from any goroutine.
type Vault interface {
	// Names lists the records in bytewise order, damaged ones included.
	Names() []string
	// Load unseals a record and calls f with its plain text, which lies in the
	// Arena and is wiped when f returns. Errors: ErrNoRecord, a *DamagedError,
	// what the disk said, or f's own.
	Load(name string, f func(plain []byte) error) error
	// Save seals plain under name, in place of what was there. When it returns
	// nil the record is durable. After an error the record is whole, and either
	// the old one or the new one.
	Save(name string, plain []byte) error
	// Remove drops a record, durably; ErrNoRecord where there is none. It works
	// on damaged records.
	Remove(name string) error
	// Public returns the public document, nil where there is none.
	Public() ([]byte, error)
	// SavePublic replaces the public document, durably.
	SavePublic(doc []byte) error
	// Epoch counts the changes that the vault has ever kept. A vault that shows
	// a smaller epoch than it once did was rolled back as a whole.
	Epoch() uint64
	// Arena is where secrets belong; it is closed with the vault.
	Arena() *locked.Arena
	// Close wipes every secret in memory.
	Close() error
}
