// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"io"
	"mime"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/storage/partial"
)

// noSlice is the group of a read of plain bytes.
const noSlice = -1

// sliceGroup returns the group of the slice that Accept asks for, or noSlice. Only
// who names the type gets a slice: a wildcard means plain bytes. A group that no
// slice has is not asked for either.
func sliceGroup(h macronode.Header) int {
	for _, line := range h["Accept"] {
		if line == "*/*" { // what most clients say
			continue
		}
		for one := range strings.SplitSeq(line, ",") {
			media, params, err := mime.ParseMediaType(one)
			if err != nil || media != b3.SliceMediaType || params["q"] == "0" {
				continue
			}
			switch params["group"] {
			case "4":
				return b3.SliceGroups
			case "0", "": // the official format
				return b3.SliceChunks
			}
		}
	}
	return noSlice
}

// sliceTag makes the ETag of an object that of its slices: another representation.
func sliceTag(etag string, group int) string {
	return strings.TrimSuffix(etag, `"`) + ";bao=" + strconv.Itoa(group) + `"`
}

func sliceType(group int) string { return b3.SliceMediaType + ";group=" + strconv.Itoa(group) }

// asSlice makes r's reply a slice of the one range asked for, or of the whole. The
// status is 200: what a 206 counts are bytes of the representation.
func (s *Service) asSlice(ctx context.Context, a *macronode.Admitted, r *read) error {
	span := partial.Span{N: r.ref.Size}
	if h := a.Header["Range"]; len(h) == 1 && partial.RangeCounts(a.Header, r.etag) {
		spans, err := partial.Ranges(h[0], r.ref.Size)
		if err != nil {
			return err
		}
		switch {
		case len(spans) == 1:
			span = spans[0]
		case len(spans) > 1:
			return macronode.Errorf(macronode.RangeNotSatisfiable, "a slice is of one range")
		}
	}
	length := b3.SliceBytes(r.ref.Size, r.group, span.Off, span.N)
	if a.ReplyBytes != macronode.NoLimit && length > a.ReplyBytes {
		return macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", length, a.ReplyBytes)
	}
	r.plan.one[0].Span = span
	r.plan.parts, r.plan.length = r.plan.one[:], length
	r.reply.Length, r.reply.ContentType = length, sliceType(r.group)
	return s.fetch(ctx, r)
}

// openSlice makes the reply's stream. Its first group is verified before the head
// leaves, since nothing is written before it was read.
func (s *Service) openSlice(ctx context.Context, r *read) error {
	o, err := s.openPinned(ctx, r)
	if err != nil {
		return err
	}
	r.reply.Stream = &sliceBody{Local: &Local{Object: o, s: s, loc: r.ref.Loc}, group: r.group, span: r.plan.one[0].Span}
	return nil
}

// sliceBody is the stream of a slice.
type sliceBody struct {
	*Local
	group int
	span  partial.Span
}

var _ macronode.Stream = (*sliceBody)(nil)

// WriteTo implements macronode.Stream.
func (b *sliceBody) WriteTo(w io.Writer) (int64, error) {
	return b.WriteSlice(w, b.group, b.span.Off, b.span.N)
}
