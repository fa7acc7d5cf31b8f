// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build !linux

package hot

func advise([]byte) {}

func misaligned([]byte) int { return 0 }
