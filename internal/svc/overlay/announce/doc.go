// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package announce says to other nodes which objects this node has, without
// naming one: what goes out is a short keyed hash of the address, under a secret of
// the tenant that the nodes which share the tenant were given. Who lacks the
// secret can neither read an announcement nor test an address against it.
//
// [Book] is what this node announces, [Known] what others announced to it. Both
// are bounded; what finds no place is not announced and not found, no more.
//
// Changes go out as they happen, numbered; who missed one asks for the whole
// (a summary) again. An epoch is one unbroken numbering: a new one voids what went
// before.
package announce
