// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"

	"github.com/rustyonions/macronode/internal/config/document"
)

// Error is the refusal of a bundle, with every problem that was found and the
// exit code. [Check] and [Load] return no other error.
type Error = document.Error

// Problem is one of them, with file, line and key.
type Problem = document.Problem

// Classes of refusal; see [document.Class].
const (
	ClassBad     = document.ClassBad
	ClassFeature = document.ClassFeature
	ClassTrust   = document.ClassTrust
)

// Exit codes of refusals.
const (
	ExitBad   = document.ExitBad
	ExitTrust = document.ExitTrust
)

// Causes of a trust refusal that package bundle has no error for.
var (
	ErrHash    = errors.New("wrong bundle hash")
	ErrVersion = errors.New("version refused")
)
