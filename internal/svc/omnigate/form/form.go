// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package form is how facets read bodies and pages and write answers.
package form

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/rustyonions/macronode"
)

// Pages of lists.
const (
	DefaultPage = 100
	MaxPage     = 1000
	maxCursor   = 1024
)

// PageParams documents the arguments of a list.
func PageParams(more ...macronode.Param) []macronode.Param {
	return append(more, macronode.Param{Name: "cursor", Type: "string", Text: "the last page's cursor"},
		macronode.Param{Name: "limit", Type: "integer", Text: "1 to 1000, default 100"})
}

// Read reads a body that is one JSON object with known members alone.
func Read(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			return macronode.Errorf(macronode.Malformed, "%s is of another type", wrong.Field)
		}
		if strings.HasPrefix(err.Error(), "json: unknown field") {
			return macronode.Errorf(macronode.Malformed, "%.80s", strings.TrimPrefix(err.Error(), "json: "))
		}
		return macronode.Wrap(macronode.Malformed, "the body is not the JSON object that is wanted", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return macronode.Errorf(macronode.Malformed, "the body goes on after its JSON object")
	}
	return nil
}

// Answer is v as a JSON reply. One that the capability leaves no room for is
// refused; what is asked for must not have been done yet.
func Answer(a *macronode.Admitted, status int, v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	b = append(b, '\n')
	if a.ReplyBytes != macronode.NoLimit && int64(len(b)) > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", len(b), a.ReplyBytes)
	}
	return &macronode.Reply{Status: status, ContentType: "application/json", Body: b}, nil
}

// Page reads the limit and the cursor of a list.
func Page(a *macronode.Admitted) (limit int, cursor []byte, err error) {
	n, err := a.NumberArg("limit", DefaultPage, 1, MaxPage)
	if err != nil {
		return 0, nil, err
	}
	text := a.Arg("cursor")
	if text == "" {
		return int(n), nil, nil
	}
	if len(text) <= maxCursor {
		if cursor, err = base64.RawURLEncoding.Strict().DecodeString(text); err == nil {
			return int(n), cursor, nil
		}
	}
	return 0, nil, BadCursor()
}

// Cursor is the text of a place in a list.
func Cursor(place []byte) string { return base64.RawURLEncoding.EncodeToString(place) }

// BadCursor is the refusal of a cursor that no list gave.
func BadCursor() error {
	return macronode.Errorf(macronode.Malformed, "the cursor is not one that this list gave")
}
