// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package mem keeps metadata, objects and logs in memory, for a node that may leave
// nothing behind and for tests. "Durable" here means: until the process ends.
//
// KV is a persistent treap: a transaction copies the nodes it changes, so a
// View is one pointer load and never waits for a writer, and rolling back is
// forgetting the new root. It needs no files, no goroutines and starts at once.
//
// All of them are bounded in bytes and answer store.ErrFull at the bound.
package mem
