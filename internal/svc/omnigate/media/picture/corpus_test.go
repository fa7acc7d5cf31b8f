// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"

	"golang.org/x/image/bmp"
)

// painted is an image whose four quarters are red, green, blue and white.
func painted(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.NRGBA{255, 255, 255, 255}
			switch {
			case x < w/2 && y < h/2:
				c = color.NRGBA{255, 0, 0, 255}
			case y < h/2:
				c = color.NRGBA{0, 255, 0, 255}
			case x < w/2:
				c = color.NRGBA{0, 0, 255, 255}
			}
			m.SetNRGBA(x, y, c)
		}
	}
	return m
}

func encoded(t testing.TB, f Format, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch f {
	case PNG:
		err = png.Encode(&b, m)
	case JPEG:
		err = jpeg.Encode(&b, m, nil)
	case GIF:
		err = gif.Encode(&b, m, nil)
	case BMP:
		err = bmp.Encode(&b, m)
	case WebP: // one pixel: there is no encoder at hand
		b.Write(onePixel(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func onePixel(t testing.TB) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// chunk is a chunk of a PNG.
func chunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

func header(w, h uint32, depth, kind, interlace byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, w)
	b = binary.BigEndian.AppendUint32(b, h)
	return append(b, depth, kind, 0, 0, interlace)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func cat(b []byte, text string) []byte { return append(bytes.Clone(b), text...) }

// without the last n bytes.
func less(b []byte, n int) []byte { return bytes.Clone(b[:len(b)-n]) }

// put overwrites b at at.
func put(b []byte, at int, v ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], v)
	return b
}

// after returns b with data behind its first n bytes.
func after(b []byte, n int, data []byte) []byte { return join(b[:n], data, b[n:]) }

// exifTurn is a JPEG's segment that says how the picture is turned.
func exifTurn(order binary.ByteOrder, v uint16) []byte {
	b := []byte("Exif\x00\x00II*\x00")
	if order == binary.BigEndian {
		b = []byte("Exif\x00\x00MM\x00*")
	}
	add16 := func(n uint16) { x := make([]byte, 2); order.PutUint16(x, n); b = append(b, x...) }
	add32 := func(n uint32) { x := make([]byte, 4); order.PutUint32(x, n); b = append(b, x...) }
	add32(8)
	add16(1)
	add16(0x0112)
	add16(3)
	add32(1)
	add16(v)
	add16(0)
	add32(0)
	seg := []byte{0xff, app1}
	seg = binary.BigEndian.AppendUint16(seg, uint16(len(b)+2))
	return append(seg, b...)
}

// zipTailOf is the end of an empty archive.
var zipTailOf = "PK\x05\x06" + string(make([]byte, 18))

// refused are images that are none, or more than one thing; large such that take too
// much. Each is made from a good one by the one thing that is wrong with it.
func refused(t testing.TB) map[string][]byte {
	p, j, g := encoded(t, PNG, painted(8, 8)), encoded(t, JPEG, painted(16, 16)), encoded(t, GIF, painted(8, 8))
	w, b := encoded(t, WebP, nil), encoded(t, BMP, painted(8, 8))
	comment := func(text string) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{0xff, 0xfe}, uint16(len(text)+2)), text...)
	}
	return map[string][]byte{
		"PNG with bytes behind it": cat(p, "x"), "PNG that is an archive": cat(p, "PK\x03\x04"+zipTailOf),
		"GIF with a page behind it": cat(g, "<html>"), "WebP with bytes behind it": cat(w, "xx"), "BMP with bytes behind it": cat(b, "x"),
		"JPEG with bytes behind it": cat(j, "hello"), "JPEG with an archive behind padding": cat(j, "\x00\x00PK\x03\x04"),
		"JPEG with a picture and an archive behind it": cat(append(bytes.Clone(j), j...), zipTailOf),
		"PNG with a page in a comment":                 after(p, 33, chunk("tEXt", []byte("Comment\x00<HTML><body>"))),
		"PNG with a program far behind":                join(less(p, 12), chunk("tEXt", append(make([]byte, 5000), "<script>alert(1)</script>"...)), p[len(p)-12:]),
		"JPEG with PHP":                                after(j, 2, comment("<?php system($_GET[0]); ?>")),
		"JPEG that is a PDF":                           after(j, 2, comment("%PDF-1.4\n")),
		"PNG that is an archive within":                join(less(p, 12), chunk("zzZz", []byte(zipTailOf)), p[len(p)-12:]),
		"GIF with SVG":                                 after(g, len(g)-1, []byte("\x21\xfe\x05<svg>\x00")),
		"PNG without an end":                           less(p, 12), "JPEG without an end": less(j, 2), "GIF without an end": less(g, 1), "WebP without an end": less(w, 4), "BMP without an end": less(b, 9),
		"PNG with a chunk too long": put(p, 33, 0x7f, 0xff, 0xff, 0xff), "PNG with two headers": after(p, 33, p[8:33]), "PNG of no width": put(p, 16, 0, 0, 0, 0),
		"PNG with an unknown colour type": put(p, 25, 5), "GIF with a frame outside": put(g, 6, 4, 0, 4, 0),
		"WebP with two pictures": append(put(w, 4, byte(2*len(w)-12-8)), w[12:]...), "BMP of another length": put(b, 2, 1),
		"nothing": []byte("\x89PNG\r\n\x1a\n"), "JPEG of nothing": []byte("\xff\xd8\xff\xd9"), "GIF of nothing": []byte("GIF89a"),
		"JPEG with two frames": twoFrames(j), "JPEG that does not say its height": noHeight(j),
	}
}

// sofAt is where a JPEG's frame header is.
func sofAt(j []byte) int { return bytes.Index(j, []byte{0xff, sof0}) }

func twoFrames(j []byte) []byte {
	at := sofAt(j)
	return after(j, at, j[at:at+2+int(binary.BigEndian.Uint16(j[at+2:]))])
}

func noHeight(j []byte) []byte { return put(j, sofAt(j)+5, 0, 0) }

func large(t testing.TB) map[string][]byte {
	p, j, g, b := encoded(t, PNG, painted(8, 8)), encoded(t, JPEG, painted(16, 16)), encoded(t, GIF, painted(8, 8)), encoded(t, BMP, painted(8, 8))
	scan := j[bytes.Index(j, []byte{0xff, sos}) : len(j)-2]
	progressive := put(j, sofAt(j)+1, sof2)
	return map[string][]byte{
		"PNG of 30000 by 30000":       put(p, 16, 0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30),
		"PNG of 2^31 by 1":            put(p, 16, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1),
		"PNG of 16 bits, interlaced":  join([]byte(pngMagic), chunk("IHDR", header(4000, 4000, 16, 6, 1)), chunk("IDAT", nil), chunk("IEND", nil)),
		"JPEG of 65500 by 65500":      put(j, sofAt(j)+5, 0xff, 0xdc, 0xff, 0xdc),
		"progressive of 6500 by 6500": put(progressive, sofAt2(progressive)+5, 0x19, 0x64, 0x19, 0x64),
		"JPEG of a thousand scans":    join(less(j, 2), bytes.Repeat(scan, 1000), j[len(j)-2:]),
		"GIF of 65535 by 65535":       put(g, 6, 0xff, 0xff, 0xff, 0xff),
		"BMP of 2^31 by 1":            put(b, 18, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0),
		"WebP of 16384 by 16384":      put(onePixel(t), 21, 0xff, 0xff, 0xff, 0x0f),
		"animation of 2^31 frames":    after(p, 33, chunk("acTL", []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0})),
	}
}

func sofAt2(j []byte) int { return bytes.Index(j, []byte{0xff, sof2}) }
