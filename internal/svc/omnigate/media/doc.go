// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package media is the facet of images, sound and film: objects streamed as what they
// are, what their headers say, and thumbnails.
//
// # What it promises
//
//   - Bytes are the object's own, verified, with its ETag, conditions and one range.
//     Several ranges at once are not for media: the whole is sent.
//   - The type is what the bytes are, reconciled with what was declared (package
//     sniff). Nothing is shown in place that a browser could take for a page or a
//     program, and none of it may run anything.
//   - Nothing is decoded that was not looked through first (package picture): one image
//     and nothing else, with so many pixels and so much memory at most. Decoding has a
//     time, and the memory of all that is being decoded a bound.
//   - A thumbnail is made of pixels alone: nothing of the object's other content, such
//     as the place where a photo was taken, is in it.
//   - Everything is looked up by tenant, each time. What is remembered (types, what
//     headers say, thumbnails) is bounded, kept by tenant, and never shows an object
//     that the tenant does not have any more.
package media
