// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/bmp"
	"golang.org/x/image/webp"
)

// Box is what a thumbnail has to fit. Cover cuts away what lies outside the box once
// it is filled; else all of the image is shown. No thumbnail is larger than its image.
type Box struct {
	W, H  int
	Cover bool
}

// stripRows is how many rows are turned into colours at once.
const stripRows = 16

// paced hands bytes to a decoder a little at a time, and none once the time is over:
// a decoder that is at work for long still reads.
type paced struct {
	ctx context.Context
	b   []byte
}

const paceBytes = 512

// Read implements io.Reader.
func (p *paced) Read(to []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, context.Cause(p.ctx)
	}
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to[:min(len(to), paceBytes)], p.b)
	p.b = p.b[n:]
	return n, nil
}

// Decode decodes the image that i describes, the first of an animation, until ctx
// ends.
func Decode(ctx context.Context, b []byte, i *Info) (m image.Image, err error) {
	if i.undecodable != "" {
		return nil, fmt.Errorf("%w: %s", ErrUnsupported, i.undecodable)
	}
	defer func() {
		if p := recover(); p != nil { // a decoder's mistake is the image's fault
			m, err = nil, form("the decoder failed")
		}
	}()
	r := &paced{ctx, b}
	switch i.Format {
	case PNG:
		m, err = png.Decode(r)
	case JPEG:
		m, err = jpeg.Decode(r)
	case GIF:
		m, err = gif.Decode(r)
	case WebP:
		m, err = webp.Decode(r)
	case BMP:
		m, err = bmp.Decode(r)
	default:
		return nil, ErrUnsupported
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, form("it cannot be decoded")
	}
	if r := m.Bounds(); r.Dx() > i.Width || r.Dy() > i.Height {
		return nil, form("it is larger than it says")
	}
	return m, nil
}

// Thumbnail makes a small picture of the image, upright. ctx ends it.
func Thumbnail(ctx context.Context, b []byte, i *Info, box Box) (*image.RGBA, error) {
	if box.W < 1 || box.H < 1 {
		return nil, errors.New("picture: a box has a size")
	}
	m, err := Decode(ctx, b, i)
	if err != nil {
		return nil, err
	}
	if i.Orientation >= 5 {
		box.W, box.H = box.H, box.W
	}
	canvas := image.Rect(0, 0, i.Width, i.Height)
	part, w, h := box.place(canvas)
	small, err := shrink(ctx, m, part, w, h)
	if err != nil {
		return nil, err
	}
	return turn(small, i.Orientation), nil
}

// place is the part of the canvas that is shown, and the size that it gets.
func (b Box) place(c image.Rectangle) (part image.Rectangle, w, h int) {
	cw, ch := int64(c.Dx()), int64(c.Dy())
	bw, bh := min(int64(b.W), cw), min(int64(b.H), ch)
	if b.Cover {
		// The largest part of the canvas that has the box's shape.
		pw, ph := cw, max(cw*bh/bw, 1)
		if ph > ch {
			pw, ph = max(ch*bw/bh, 1), ch
		}
		x, y := (cw-pw)/2, (ch-ph)/2
		return image.Rect(int(x), int(y), int(x+pw), int(y+ph)), int(min(bw, pw)), int(min(bh, ph))
	}
	if cw*bh > ch*bw { // wider than the box
		bh = max(ch*bw/cw, 1)
	} else {
		bw = max(cw*bh/ch, 1)
	}
	return c, int(bw), int(bh)
}

// shrink makes the part of m w by h pixels, each the mean of those that it stands
// for. It needs memory for a few rows beside the result.
func shrink(ctx context.Context, m image.Image, part image.Rectangle, w, h int) (*image.RGBA, error) {
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	pw, ph := part.Dx(), part.Dy()
	strip := image.NewRGBA(image.Rect(0, 0, pw, stripRows))
	sums := make([]uint64, 4*w)
	columns := make([]int, w+1)
	for x := range columns {
		columns[x] = int(int64(x) * int64(pw) / int64(w))
	}
	at := 0 // row of the strip's first row
	fill := func(y int) {
		at = y
		clear(strip.Pix) // an image may be smaller than its canvas
		draw.Draw(strip, strip.Bounds(), m, image.Pt(part.Min.X, part.Min.Y+y), draw.Src)
	}
	fill(0)
	for oy := range h {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		clear(sums)
		y0, y1 := int(int64(oy)*int64(ph)/int64(h)), int(int64(oy+1)*int64(ph)/int64(h))
		for y := y0; y < y1; y++ {
			if y >= at+stripRows {
				fill(y)
			}
			row := strip.Pix[(y-at)*strip.Stride:]
			for x := range w {
				s := sums[4*x : 4*x+4 : 4*x+4]
				for p := columns[x]; p < columns[x+1]; p++ {
					px := row[4*p : 4*p+4 : 4*p+4]
					s[0] += uint64(px[0])
					s[1] += uint64(px[1])
					s[2] += uint64(px[2])
					s[3] += uint64(px[3])
				}
			}
		}
		to := out.Pix[oy*out.Stride:]
		for x := range w {
			n := uint64((columns[x+1] - columns[x]) * (y1 - y0))
			for c := range 4 {
				to[4*x+c] = uint8((sums[4*x+c] + n/2) / n)
			}
		}
	}
	return out, nil
}

// turn makes m upright, by EXIF's orientation.
func turn(m *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 || orientation > 8 {
		return m
	}
	w, h := m.Rect.Dx(), m.Rect.Dy()
	ow, oh := w, h
	if orientation >= 5 {
		ow, oh = h, w
	}
	out := image.NewRGBA(image.Rect(0, 0, ow, oh))
	for y := range oh {
		for x := range ow {
			sx, sy := x, y
			switch orientation {
			case 2:
				sx = w - 1 - x
			case 3:
				sx, sy = w-1-x, h-1-y
			case 4:
				sy = h - 1 - y
			case 5:
				sx, sy = y, x
			case 6:
				sx, sy = y, h-1-x
			case 7:
				sx, sy = w-1-y, h-1-x
			case 8:
				sx, sy = w-1-y, x
			}
			copy(out.Pix[out.PixOffset(x, y):][:4], m.Pix[m.PixOffset(sx, sy):][:4])
		}
	}
	return out
}

// jpegQuality of thumbnails.
const jpegQuality = 82

// Encode writes a thumbnail as JPEG or PNG. A JPEG shows what is transparent white.
func Encode(m *image.RGBA, f Format) ([]byte, error) {
	var out bytes.Buffer
	switch f {
	case PNG:
		err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&out, m)
		return out.Bytes(), err
	case JPEG:
		if !m.Opaque() {
			flat := image.NewRGBA(m.Rect)
			draw.Draw(flat, flat.Rect, image.White, image.Point{}, draw.Src)
			draw.Draw(flat, flat.Rect, m, m.Rect.Min, draw.Over)
			m = flat
		}
		err := jpeg.Encode(&out, m, &jpeg.Options{Quality: jpegQuality})
		return out.Bytes(), err
	}
	return nil, ErrUnsupported
}
