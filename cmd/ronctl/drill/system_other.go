// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build !linux

package drill

import (
	"errors"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

func freeBytes(string) (int64, error) {
	return 0, errors.New("free space is not measured on this system")
}

func peakBytes(int) (int64, bool) { return 0, false }
