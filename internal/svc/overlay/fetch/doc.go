// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package fetch gets a tenant's objects from the nodes that announced them for the
// same tenant, and gives other nodes this one's.
//
// The asking side ([Fetcher]) believes nothing: the object's length is proven by
// its last group before anything else is believed, and every group of 16 KiB
// is verified against the address before it is handed on. A node that sends
// anything else is caught at that group, forgotten, reported, and another goes on
// from the last verified byte.
//
// The answering side ([Holder]) answers from this node's store alone and asks
// nobody: what it does not have is not found, whoever else may have it. It answers
// only who proves to know the tenant's secret.
//
// # The answer to overlay.fetch
//
// Arguments addr, off, n, group (0 or 4) and proof. The body is one or two slices
// (package b3), one after the other:
//
//   - of group 4, the object's last group, which proves the length; of an object
//     of up to 16 KiB that is all of it, and nothing follows;
//   - where n is not 0, the slice of the n bytes from off.
package fetch
