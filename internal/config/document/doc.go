// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package document reads the TOML of a config bundle as a tree in which every
// value knows its line, so that an error can say where it is wrong.
//
// It accepts what a signed document may hold and no more: tables, lists, text,
// booleans and integers up to 2^53-1; no floats, no dates. Every problem is
// collected, not the first alone. It also edits: [Seal] writes version, signer
// and hash into a text and leaves its comments alone.
package document
