// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package picture looks at images that strangers made, and makes small ones of them.
//
// [Inspect] walks an image's structure from its first byte to its last, without
// decoding, and refuses what is not one image and nothing else: a second document
// behind its end or around it, sizes that do not agree with each other, more pixels
// or memory than a decoder is given. Only what it let through is decoded, by the
// decoders of the standard library and of golang.org/x/image, within a time.
//
// Formats: PNG, JPEG, GIF, WebP, BMP. Others are not decoded: no decoder of theirs is
// held to what a header says.
package picture
