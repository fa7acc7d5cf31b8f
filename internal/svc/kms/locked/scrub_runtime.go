// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build goexperiment.runtimesecret

package locked

import "runtime/secret"

func scrub(f func()) { secret.Do(f) }
