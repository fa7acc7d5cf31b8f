// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package picture

import "encoding/binary"

const (
	pngMagic  = "\x89PNG\r\n\x1a\n"
	pngHeader = 13 // bytes of IHDR
	pngFrame  = 12 // length, type and checksum of a chunk
)

// pngBytes are the bytes a pixel takes once decoded, by colour type, for 8 bits or
// fewer a channel; 16 bits take twice as many.
var pngBytes = map[byte]float64{0: 1, 2: 4, 3: 1, 4: 4, 6: 4}

func walkPNG(b []byte, i *Info) (end int, err error) {
	i.Format = PNG
	at := len(pngMagic)
	for n := 0; ; n++ {
		if len(b)-at < pngFrame || n > maxParts {
			return 0, form("a PNG that does not end")
		}
		size := int64(binary.BigEndian.Uint32(b[at:]))
		kind := string(b[at+4 : at+8])
		if size > int64(len(b)-at-pngFrame) {
			return 0, form("a chunk is longer than the PNG")
		}
		data := b[at+8 : at+8+int(size)]
		at += pngFrame + int(size)
		if (n == 0) != (kind == "IHDR") {
			return 0, form("IHDR is not the first chunk alone")
		}
		switch kind {
		case "IHDR":
			if err := i.png(data); err != nil {
				return 0, err
			}
		case "tRNS":
			i.Alpha = true
		case "acTL":
			if len(data) != 8 {
				return 0, form("a bad animation")
			}
			i.Frames = int(min(max(binary.BigEndian.Uint32(data), 1), maxFrames+1))
		case "IEND":
			if size != 0 {
				return 0, form("a bad end")
			}
			return at, nil
		}
	}
}

func (i *Info) png(h []byte) error {
	if len(h) != pngHeader {
		return form("a bad IHDR")
	}
	w, ht := binary.BigEndian.Uint32(h), binary.BigEndian.Uint32(h[4:])
	if w > MaxSide || ht > MaxSide {
		w, ht = min(w, MaxSide+1), min(ht, MaxSide+1) // refused, with a number that fits
	}
	depth, kind := h[8], h[9]
	each, known := pngBytes[kind]
	if !known || depth > 16 || h[12] > 1 {
		return form("a bad IHDR")
	}
	if depth == 16 {
		each *= 2
	}
	if h[12] == 1 {
		i.Progressive, each = true, each*2 // the passes, and the whole
	}
	i.Width, i.Height, i.Alpha = int(w), int(ht), kind == 4 || kind == 6
	i.needs(each + 1)
	return nil
}
