// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"

	"github.com/rustyonions/macronode"
)

// ingressPath takes OAP/1 frames over HTTP. It is a wire, not a route: what
// arrives is a frame, whose call crosses the wall like any other.
const ingressPath = "/ingress"

// ingress answers requests to ingressPath. The size of a frame is held against
// its limit before anything else; frames themselves are not taken yet.
func (x *exchange) ingress() {
	e := x.ingressRefusal()
	x.s.conf.Reject(e.Kind)
	x.refuse(e)
}

func (x *exchange) ingressRefusal() *macronode.Error {
	limit := x.limits.MaxFrameBytes
	if x.r.Method != http.MethodPost {
		e := macronode.Errorf(macronode.MethodNotAllowed, "frames are posted")
		e.Header = macronode.Header{"Allow": {http.MethodPost}}
		return e
	}
	tooLarge := macronode.Errorf(macronode.TooLarge, "a frame may have %d bytes", limit)
	switch {
	case x.call.Length > limit:
		return tooLarge
	case x.call.Length < 0 && x.wanted():
		n, err := io.CopyN(io.Discard, &x.body, limit+1)
		if n > limit {
			return tooLarge
		}
		if err != nil && err != io.EOF {
			return macronode.AsError(err)
		}
	}
	return macronode.Errorf(macronode.Unimplemented, "OAP/1 over HTTP is not served here")
}
