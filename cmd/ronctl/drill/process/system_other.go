// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build !linux

package process

import (
	"errors"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

// FreeBytes is not known here.
func FreeBytes(string) (int64, error) {
	return 0, errors.New("free space is not measured on this system")
}

// PeakBytes is not known here.
func PeakBytes(int) (int64, bool) { return 0, false }
