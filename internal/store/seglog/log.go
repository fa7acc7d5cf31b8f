// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"errors"

	"github.com/rustyonions/macronode/internal/store"
)

// Log is a store.Log in files.
type Log struct{ store.Log }

// Open opens the log of a directory, or begins one, and says what it found.
func Open(c Config) (*Log, Found, error) {
	if err := c.Validate(); err != nil {
		return nil, Found{}, err
	}
	return nil, Found{}, errors.ErrUnsupported
}

// SetReserve makes n bytes of the disk stay free from now on.
func (l *Log) SetReserve(int64) {}
