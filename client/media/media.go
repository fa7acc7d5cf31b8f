// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package media asks a node for images, sound and film: the bytes under the type that
// they have, what their headers say, and thumbnails.
package media

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// Info is what an object's headers say of it.
type Info struct {
	Addr b3.Addr `json:"addr"`
	Size int64   `json:"size"` // bytes
	// Declared is the type that its owner gave it, Sniffed what its bytes are, Type
	// what it is served as; Inline says that it may be shown in place.
	Declared string `json:"declared"`
	Sniffed  string `json:"sniffed"`
	Type     string `json:"type"`
	Inline   bool   `json:"inline"`
	Image    *Image `json:"image,omitempty"`
	Film     *Film  `json:"film,omitempty"` // or sound
}

// Image is what an image's structure says. Width and Height are pixels, as it is to be
// seen; Orientation is EXIF's.
type Image struct {
	Format      string `json:"format"`
	Width       int    `json:"width"`
	Height      int    `json:"height"`
	Orientation int    `json:"orientation"`
	Frames      int    `json:"frames"`
	Alpha       bool   `json:"alpha"`
	Progressive bool   `json:"progressive"`
}

// Film is what the headers of sound or film say; what they do not say is zero.
type Film struct {
	Container  string  `json:"container"`
	DurationMS int64   `json:"duration_ms,omitempty"`
	Tracks     []Track `json:"tracks"`
}

// Track is one track. Kind is video, audio, text or other; rates are a second.
type Track struct {
	Kind       string `json:"kind"`
	Codec      string `json:"codec,omitempty"`
	Language   string `json:"language,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
	Width      int    `json:"width,omitempty"`
	Height     int    `json:"height,omitempty"`
	Channels   int    `json:"channels,omitempty"`
	SampleRate int    `json:"sample_rate,omitempty"`
	BitRate    int    `json:"bit_rate,omitempty"`
}

// GetInfo asks what the object's headers say. What is none of the kinds that the node
// looks into has neither Image nor Film; a broken one is a *client.Error with 422.
func GetInfo(ctx context.Context, c *client.Client, addr b3.Addr) (Info, error) {
	var out Info
	err := c.JSON(ctx, "GET", "/media/"+addr.String()+"/info", "", nil, &out)
	return out, err
}

// Box is what a thumbnail has to fit: pixels, up to 2048; zero is the node's default
// where both are, else free. Cover fills the box and cuts what lies outside.
type Box struct {
	W, H  int
	Cover bool
}

// Thumb is a thumbnail. Its type is image/jpeg or image/png.
type Thumb struct {
	ContentType string
	Bytes       []byte
}

// maxThumbBytes bounds a thumbnail: 2048 by 2048 pixels that do not compress.
const maxThumbBytes = 20 << 20

// GetThumb asks for a thumbnail of an image. accept is the type wanted; "" leaves it to
// the node, which keeps transparency.
func GetThumb(ctx context.Context, c *client.Client, addr b3.Addr, b Box, accept string) (Thumb, error) {
	q := url.Values{}
	for k, v := range map[string]int{"w": b.W, "h": b.H} {
		if v != 0 {
			q.Set(k, strconv.Itoa(v))
		}
	}
	if b.Cover {
		q.Set("fit", "cover")
	}
	path := "/media/" + addr.String() + "/thumb"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	h := http.Header{}
	if accept != "" {
		h.Set("Accept", accept)
	}
	resp, err := c.Do(ctx, client.Request{Method: "GET", Path: path, Header: h})
	if err != nil {
		return Thumb{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxThumbBytes+1))
	if err != nil {
		return Thumb{}, err
	}
	if len(body) > maxThumbBytes {
		return Thumb{}, fmt.Errorf("media: the thumbnail has more than %d bytes", maxThumbBytes)
	}
	return Thumb{resp.Header.Get("Content-Type"), body}, nil
}

// Stream is an object's bytes, from Off on, as they come. They are not verified here:
// client.Get does that, and a player cannot wait for it.
type Stream struct {
	io.ReadCloser
	ContentType string
	Length      int64 // of this stream; -1: not known
}

// Open asks for n bytes of the object from off on; n 0: to its end.
func Open(ctx context.Context, c *client.Client, addr b3.Addr, off, n int64) (*Stream, error) {
	h := http.Header{}
	switch {
	case n > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	resp, err := c.Do(ctx, client.Request{Method: "GET", Path: "/media/" + addr.String(), Header: h})
	if err != nil {
		return nil, err
	}
	return &Stream{resp.Body, resp.Header.Get("Content-Type"), resp.ContentLength}, nil
}
