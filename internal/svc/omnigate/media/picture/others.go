// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package picture

import "encoding/binary"

// walkGIF walks blocks to the trailer.
func walkGIF(b []byte, i *Info) (end int, err error) {
	i.Format, i.Frames = GIF, 0
	const screen = 13
	if len(b) < screen {
		return 0, form("a GIF without a screen")
	}
	i.Width, i.Height = int(binary.LittleEndian.Uint16(b[6:])), int(binary.LittleEndian.Uint16(b[8:]))
	at := screen + colours(b[10])
	for n := 0; n < maxParts && at < len(b); n++ {
		kind := b[at]
		at++
		switch kind {
		case 0x3b:
			if i.Frames == 0 {
				return 0, form("a GIF without a picture")
			}
			i.needs(2) // the first frame, a byte a pixel
			return at, nil
		case 0x21:
			if at < len(b) && b[at] == 0xf9 && len(b)-at > 3 && b[at+2]&1 != 0 {
				i.Alpha = true
			}
			at++ // the label
		case 0x2c:
			if len(b)-at < 10 {
				return 0, form("a GIF that does not end")
			}
			x, y := int(binary.LittleEndian.Uint16(b[at:])), int(binary.LittleEndian.Uint16(b[at+2:]))
			w, h := int(binary.LittleEndian.Uint16(b[at+4:])), int(binary.LittleEndian.Uint16(b[at+6:]))
			if x+w > i.Width || y+h > i.Height || w == 0 || h == 0 {
				return 0, form("a frame outside its screen")
			}
			if i.Frames++; w < i.Width || h < i.Height {
				i.Alpha = true
			}
			at += 9 + colours(b[at+8]) + 1 // and the code size
		default:
			return 0, form("a block of no known kind")
		}
		if at, err = subBlocks(b, at); err != nil {
			return 0, err
		}
	}
	return 0, form("a GIF that does not end")
}

// colours is the size of the colour table that flags announce.
func colours(flags byte) int {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
}

func subBlocks(b []byte, at int) (int, error) {
	for {
		if at >= len(b) {
			return 0, form("a GIF that does not end")
		}
		n := int(b[at])
		at += 1 + n
		if n == 0 {
			return at, nil
		}
	}
}

// walkWebP walks the chunks, and holds the sizes of canvas and picture together.
func walkWebP(b []byte, i *Info) (end int, err error) {
	i.Format, i.Frames = WebP, 0
	size := int64(binary.LittleEndian.Uint32(b[4:])) + 8
	if size+size&1 > int64(len(b))+1 || size < 20 {
		return 0, form("a WebP that does not end")
	}
	end = min(int(size+size&1), len(b))
	var canvasW, canvasH int
	lossless := false
	for at, n := 12, 0; at < int(size); n++ {
		if int(size)-at < 8 || n > maxParts {
			return 0, form("a chunk is longer than the WebP")
		}
		kind, length := string(b[at:at+4]), int64(binary.LittleEndian.Uint32(b[at+4:]))
		at += 8
		if length > size-int64(at) {
			return 0, form("a chunk is longer than the WebP")
		}
		data := b[at : at+int(length)]
		at += int(length + length&1)
		switch kind {
		case "VP8X":
			if n != 0 || len(data) < 10 {
				return 0, form("a bad canvas")
			}
			canvasW, canvasH = 1+int(u24(data[4:])), 1+int(u24(data[7:]))
			i.Alpha = data[0]&0x10 != 0
		case "ANMF":
			i.Frames++
			i.undecodable = "an animated WebP"
		case "VP8 ", "VP8L":
			if i.Width != 0 {
				return 0, form("two pictures")
			}
			if lossless = kind == "VP8L"; !i.webp(data, lossless) {
				return 0, form("a bad picture")
			}
		}
	}
	switch {
	case i.undecodable != "" && i.Width == 0:
		i.Width, i.Height = canvasW, canvasH
	case canvasW != 0 && (canvasW != i.Width || canvasH != i.Height):
		return 0, form("the picture is not as large as its canvas")
	}
	i.Frames = max(i.Frames, 1)
	if lossless {
		i.needs(9)
	} else {
		i.needs(3.5)
	}
	return end, nil
}

func u24(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// webp reads the size of a picture.
func (i *Info) webp(b []byte, lossless bool) bool {
	if lossless {
		if len(b) < 5 || b[0] != 0x2f {
			return false
		}
		v := binary.LittleEndian.Uint32(b[1:])
		i.Width, i.Height = int(v&0x3fff)+1, int(v>>14&0x3fff)+1
		i.Alpha = i.Alpha || v>>28&1 != 0
		return v>>29 == 0
	}
	if len(b) < 10 || b[0]&1 != 0 || b[3] != 0x9d || b[4] != 0x01 || b[5] != 0x2a {
		return false
	}
	i.Width, i.Height = int(binary.LittleEndian.Uint16(b[6:])&0x3fff), int(binary.LittleEndian.Uint16(b[8:])&0x3fff)
	return true
}

// walkBMP reads the headers. The pixels lie at the end.
func walkBMP(b []byte, i *Info) (end int, err error) {
	i.Format = BMP
	const fileHead = 14
	if len(b) < fileHead+40 {
		return 0, form("a BMP without its headers")
	}
	size, pixels, head := int64(binary.LittleEndian.Uint32(b[2:])), int64(binary.LittleEndian.Uint32(b[10:])), binary.LittleEndian.Uint32(b[14:])
	w, h := int64(int32(binary.LittleEndian.Uint32(b[18:]))), int64(int32(binary.LittleEndian.Uint32(b[22:])))
	depth, packed := int64(binary.LittleEndian.Uint16(b[28:])), binary.LittleEndian.Uint32(b[30:])
	if h < 0 {
		h = -h
	}
	if w <= 0 || h <= 0 || head != 40 && head != 108 && head != 124 {
		return 0, form("a bad header")
	}
	if w > MaxSide || h > MaxSide {
		w, h = min(w, MaxSide+1), min(h, MaxSide+1)
	}
	i.Width, i.Height, i.Alpha = int(w), int(h), depth == 32
	if packed != 0 && packed != 3 || depth != 8 && depth != 24 && depth != 32 && depth != 1 && depth != 2 && depth != 4 {
		i.undecodable = "a BMP of a rare kind"
	}
	i.needs(5)
	stride := (w*depth + 31) / 32 * 4
	if packed == 0 && w <= MaxSide && h <= MaxSide && pixels+stride*h > int64(len(b)) {
		return 0, form("a BMP that does not end")
	}
	if size != int64(len(b)) {
		return 0, form("a BMP of another length than it says")
	}
	return len(b), nil
}
