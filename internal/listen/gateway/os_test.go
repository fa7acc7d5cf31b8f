// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"os"
	"path/filepath"
)

func mkdir(file string) error { return os.MkdirAll(filepath.Dir(file), 0o700) }

func uid() uint32 { return uint32(os.Getuid()) }
