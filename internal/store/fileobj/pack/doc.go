// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package pack is the format of pack files, in which many small objects lie one
// behind the other: their heads, records and hints as bytes, and a scan of what a
// file holds, whatever happened to it. It opens and syncs nothing.
package pack
