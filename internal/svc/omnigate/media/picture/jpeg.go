// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Markers of a JPEG.
const (
	sof0 = 0xc0 // baseline
	sof1 = 0xc1 // extended
	sof2 = 0xc2 // progressive
	dht  = 0xc4
	jpg  = 0xc8
	dac  = 0xcc
	rst0 = 0xd0
	rst7 = 0xd7
	soi  = 0xd8
	eoi  = 0xd9
	sos  = 0xda
	app1 = 0xe1
	tem  = 0x01
)

func walkJPEG(b []byte, i *Info) (end int, err error) {
	i.Format = JPEG
	at, scans := 2, 0
	for n := 0; n < maxParts; n++ {
		for at < len(b) && b[at] == 0xff && at+1 < len(b) && b[at+1] == 0xff {
			at++ // fill
		}
		if len(b)-at < 2 || b[at] != 0xff {
			return 0, form("no marker where one is due")
		}
		marker := b[at+1]
		at += 2
		switch {
		case marker == eoi:
			if i.Width == 0 || scans == 0 {
				return 0, form("a JPEG without a picture")
			}
			return at, nil
		case marker == soi || marker == 0:
			return 0, form("a marker out of place")
		case marker == tem || marker >= rst0 && marker <= rst7:
			continue
		}
		if len(b)-at < 2 {
			break
		}
		size := int(binary.BigEndian.Uint16(b[at:]))
		if size < 2 || size > len(b)-at {
			return 0, form("a segment is longer than the JPEG")
		}
		data := b[at+2 : at+size]
		at += size
		switch {
		case marker == sos:
			if scans++; scans > maxScans {
				return 0, fmt.Errorf("%w: more than %d scans", ErrTooLarge, maxScans)
			}
			at = skipEntropy(b, at)
		case marker == app1:
			i.exif(data)
		case marker >= sof0 && marker <= 0xcf && marker != dht && marker != jpg && marker != dac:
			if err := i.sof(marker, data); err != nil {
				return 0, err
			}
		}
	}
	return 0, form("a JPEG that does not end")
}

// skipEntropy returns where the next marker is behind the data of a scan.
func skipEntropy(b []byte, at int) int {
	for {
		n := bytes.IndexByte(b[at:], 0xff)
		if n < 0 || at+n+1 >= len(b) {
			return len(b)
		}
		at += n
		if next := b[at+1]; next == 0 || next >= rst0 && next <= rst7 {
			at += 2
			continue
		}
		if b[at+1] == 0xff {
			at++
			continue
		}
		return at
	}
}

// sof reads the header of the one frame.
func (i *Info) sof(marker byte, h []byte) error {
	if i.Width != 0 {
		return form("two frames")
	}
	if marker > sof2 {
		i.undecodable = "a JPEG of a rare kind"
	}
	if len(h) < 6 || len(h) != 6+3*int(h[5]) {
		return form("a bad frame header")
	}
	if h[0] != 8 {
		i.undecodable = "a JPEG of more than 8 bits"
	}
	i.Height, i.Width = int(binary.BigEndian.Uint16(h[1:])), int(binary.BigEndian.Uint16(h[3:]))
	if i.Height == 0 {
		return form("a JPEG that does not say its height")
	}
	comps := int(h[5])
	if comps != 1 && comps != 3 && comps != 4 {
		return form("%d components", comps)
	}
	i.Progressive = marker == sof2
	most, samples := 0, 0
	for c := range comps {
		hv := h[6+3*c+1]
		x, y := int(hv>>4), int(hv&15)
		if x < 1 || x > 4 || y < 1 || y > 4 {
			return form("a bad sampling")
		}
		most, samples = max(most, x*y), samples+x*y
	}
	each := float64(samples) / float64(most)
	if comps == 1 {
		each = 1
	}
	each = max(each, 1)
	if i.Progressive {
		each *= 5 // a coefficient of four bytes for each sample
	}
	if comps == 4 {
		each += 4
	}
	i.needs(each + 1)
	return nil
}

const (
	exifHead     = "Exif\x00\x00"
	maxExifTags  = 512
	tagDirection = 0x0112
)

// exif reads the orientation, and nothing else. What it cannot read says nothing.
func (i *Info) exif(b []byte) {
	if !bytes.HasPrefix(b, []byte(exifHead)) {
		return
	}
	b = b[len(exifHead):]
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte("II*\x00")):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte("MM\x00*")):
		order = binary.BigEndian
	default:
		return
	}
	if len(b) < 8 {
		return
	}
	at := int64(order.Uint32(b[4:]))
	if at < 8 || at > int64(len(b)-2) {
		return
	}
	tags := int(order.Uint16(b[at:]))
	for n := range min(tags, maxExifTags) {
		e := at + 2 + 12*int64(n)
		if e > int64(len(b)-12) {
			return
		}
		if order.Uint16(b[e:]) != tagDirection || order.Uint16(b[e+2:]) != 3 {
			continue
		}
		if v := order.Uint16(b[e+8:]); v >= 1 && v <= 8 {
			i.Orientation = int(v)
		}
		return
	}
}
