// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/access/strict"
)

// maxBody bounds the JSON bodies of all routes of the service.
const maxBody = 64 << 10

// Pages of lists.
const (
	defaultPage = 100
	maxPage     = 1000
)

// noBody refuses a body where none is due; an empty object is as good as none.
func noBody(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	return strict.Decode(body, &struct{}{})
}

func jsonReply(status int, v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return &macronode.Reply{Status: status, ContentType: "application/json", Body: append(b, '\n')}, nil
}

// pageLimit reads the limit argument.
func pageLimit(a *macronode.Admitted) (int, error) {
	text := a.Arg("limit")
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxPage {
		return 0, macronode.Errorf(macronode.Malformed, "limit is 1 to %d", maxPage)
	}
	return n, nil
}

func badCursor() error {
	return macronode.Errorf(macronode.Malformed, "the cursor is not one of this list's")
}
