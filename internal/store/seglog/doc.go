// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package seglog keeps a store.Log in files of fixed size. Those who wait for the
// disk at one time share one write and one fdatasync, into blocks that were
// allocated and written before, so that no sync has metadata to write.
package seglog
