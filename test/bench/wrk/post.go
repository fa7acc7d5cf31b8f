// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wrk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rustyonions/macronode/test/bench/report"
)

// post sends a body that differs from all others in its first 16 bytes. Everything
// but those is put together once, so that wrk's own work is small.
const post = `local head, tail, n = "", "", 0
init = function(args)
  %s
  wrk.headers["Content-Type"] = "application/octet-stream"
  local f = io.open(%q, "rb")
  local body = f:read("*a")
  f:close()
  local whole = wrk.format("POST", wrk.path, nil, body)
  head, tail = whole:sub(1, #whole - #body), body:sub(17)
end
request = function()
  n = n + 1
  return head .. string.format("%%016x", n) .. tail
end
` + result

// Post is what is sent.
type Post struct {
	Bin    string // wrk's
	URL    string
	Dir    string // for the script
	Header [2]string
	Body   []byte // its first 16 bytes become a number
	Conns  int
	Span   time.Duration // whole seconds
}

// Run sends one body a call for a while and says how many calls a second were
// refused, which count for nothing else.
func (p Post) Run(ctx context.Context) (r report.Result, refused float64, err error) {
	file, lua := filepath.Join(p.Dir, "body"), filepath.Join(p.Dir, "post.lua")
	header := fmt.Sprintf("wrk.headers[%q] = %q", p.Header[0], p.Header[1])
	err = errors.Join(os.WriteFile(file, p.Body, 0o600), os.WriteFile(lua, fmt.Appendf(nil, post, header, file), 0o600))
	if err != nil {
		return r, 0, err
	}
	out, err := run(ctx, p.Bin, p.Conns, p.Span, lua, p.URL)
	if err != nil {
		return r, 0, err
	}
	if r, refused, err = parseRefused(out, 0); err != nil {
		return r, 0, fmt.Errorf("wrk: %w", err)
	}
	return r, refused / p.Span.Seconds(), nil
}
