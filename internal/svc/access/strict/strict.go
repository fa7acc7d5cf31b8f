// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package strict reads the JSON bodies of requests, and tells what is wrong with
// one without repeating what stands in it.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/rustyonions/macronode"
)

// Decode reads one JSON object with known members alone.
func Decode(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); err == nil {
			return macronode.Errorf(macronode.Malformed, "the body has more than one JSON value")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return macronode.Errorf(macronode.Malformed, "bytes follow the JSON value")
	}
	if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return macronode.Errorf(macronode.Malformed, "%s must not be a JSON %s", bad.Field, bad.Value)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return macronode.Errorf(macronode.Malformed, "unknown member %s", name)
	}
	return macronode.Wrap(macronode.Malformed, "the body is not a JSON object", err)
}
