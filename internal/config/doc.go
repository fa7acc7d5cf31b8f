// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package config reads the node's config bundle: a signed TOML document that
// says everything about a node but where its data lies.
//
// The fields of [Config] are the reference. Their tags carry name, range, form,
// unit and meaning; [Default] carries the defaults; one walk over them drives
// decoding, error texts, printing, comparing and docs/configuration.md.
//
//	key    name in its table
//	doc    what it means
//	unit   unit of an integer
//	min    least value (integers, durations, sizes)
//	max    greatest value
//	enum   accepted values, separated by "|"
//	form   a form of text from the table in forms.go
//	apply  what a change needs: live (default), rebind, restart
//	need   "yes": the key must be there
//	redact "yes": never shown in full, never quoted in an error
//
// Keys and values are judged first, all of them, and only then hash, signature,
// signer and version: see [Load].
package config
