// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package journal keeps the order in which objects and names changed, for parts
// that follow them: an index is brought up to date from it instead of scanning
// the stores.
//
// A change is recorded in the transaction that makes it, so that one is never
// without the other, whatever crashes. Consumers enroll under a name; each says
// how far it has come (Advance), and what all have passed is removed. Where
// nobody is enrolled nothing is kept but a count for each tenant. A consumer that is new, or that fell so
// far behind that its changes were given up, is told so by Enroll and rebuilds
// from the stores.
//
//	journal/c/ seq(8)        -> change
//	journal/n/ tenant(16)    -> the tenant's own count of changes(8)
//	journal/u/ consumer      -> cursor(8) since(8)
//	journal/tail             -> the last seq that was removed(8)
//
// Numbers are big-endian. Sequence numbers only grow; some may be missing. The
// tenant's own count is what may be shown to the tenant: the node's would tell
// how busy others are.
package journal
