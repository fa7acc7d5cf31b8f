// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/record"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
	"github.com/rustyonions/macronode/internal/wall/policy/shadow"
)

type (
	// RecordedDecision is one that was kept; see [record.Decision].
	RecordedDecision = record.Decision
	// ReplayReport is what a candidate would have done; see [record.Report].
	ReplayReport = record.Report
)

// maxReplayBytes bounds the body of a replay: a candidate, and decisions of
// another node or time.
const maxReplayBytes = 16 << 20

// replayCost is charged for a replay: it keeps a core busy for a while.
const replayCost = 100

// ReplayRequest is the body of POST /v1/admin/policy/replay. One of Bundle and
// Sources is given.
type ReplayRequest struct {
	// Bundle is a policy bundle as macronode policy build writes it; its signature
	// is not looked at, for it decides nothing.
	Bundle json.RawMessage `json:"bundle,omitempty"`
	// Sources are the files of a policy directory, by name.
	Sources map[string]string `json:"sources,omitempty"`
	// Decisions are those to replay; missing: what the node has recorded.
	Decisions []record.Decision `json:"decisions,omitempty"`
}

// Routes implements macronode.Service.
func (s *Service) Routes() []macronode.Route {
	if s.cfg.Watch == nil {
		return nil
	}
	return []macronode.Route{
		{Handler: s.showShadow, Binding: macronode.Binding{
			Op: "admin.policy.shadow", Service: Name, Method: "GET", Pattern: "/v1/admin/policy/shadow", OAP: macronode.AppNode, Action: "node:status",
			Resource: macronode.NodeResource, Class: macronode.Control, MaxBody: macronode.BodyNone,
			Doc: macronode.Doc{Summary: "What the shadow policy would have decided otherwise", Response: shadow.Status{}},
		}},
		{Handler: s.showDecisions, Binding: macronode.Binding{
			Op: "admin.policy.decisions", Service: Name, Method: "GET", Pattern: "/v1/admin/policy/decisions", OAP: macronode.AppNode, Action: "node:status",
			Resource: macronode.NodeResource, Class: macronode.Control, MaxBody: macronode.BodyNone,
			Doc: macronode.Doc{Summary: "Recent policy decisions, one JSON document a line: attributes and hashes", ResponseType: "application/x-ndjson",
				Query: []macronode.Param{{Name: "limit", Type: "integer", Text: "the newest so many; all that are kept where missing"}}},
		}},
		{Handler: s.replay, Binding: macronode.Binding{
			Op: "admin.policy.replay", Service: Name, Method: "POST", Pattern: "/v1/admin/policy/replay", OAP: macronode.AppNode, Action: "node:status",
			Resource: macronode.NodeResource, Class: macronode.CoreRead, Cost: replayCost, MaxBody: maxReplayBytes,
			Doc: macronode.Doc{Summary: "Ask a candidate policy what it would have said to recorded decisions", Request: ReplayRequest{}, Response: record.Report{},
				Kinds: []macronode.Kind{macronode.Invalid, macronode.Conflict}},
		}},
	}
}

// watch runs the watcher beside Serve; the function it returns waits for its end.
func (s *Service) watch(ctx context.Context) (wait func()) {
	done := make(chan struct{})
	if s.cfg.Watch == nil {
		close(done)
	} else {
		go func() {
			defer close(done)
			s.cfg.Watch.Serve(ctx)
		}()
	}
	return func() { <-done }
}

func document(contentType string, body []byte) *macronode.Reply {
	return &macronode.Reply{ContentType: contentType, Body: body, Header: macronode.Header{"Cache-Control": {"no-store"}}}
}

func jsonDocument(v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return document("application/json", append(b, '\n')), nil
}

func (s *Service) showShadow(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	return jsonDocument(s.cfg.Watch.Status())
}

func (s *Service) showDecisions(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("limit"); err != nil {
		return nil, err
	}
	limit := record.MaxDecisions
	if text := a.Arg("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > record.MaxDecisions {
			return nil, macronode.Errorf(macronode.Malformed, "limit is a number from 1 to %d", record.MaxDecisions)
		}
		limit = n
	}
	var b bytes.Buffer
	if err := record.Write(&b, s.cfg.Watch.Decisions(limit)); err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return document("application/x-ndjson", b.Bytes()), nil
}

// replay asks a candidate off the live set. One runs at a time: each costs a core.
func (s *Service) replay(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	if !s.replaying.CompareAndSwap(false, true) {
		return nil, macronode.Errorf(macronode.Conflict, "another replay is running")
	}
	defer s.replaying.Store(false)
	var in ReplayRequest
	if a.Body == nil {
		return nil, macronode.Errorf(macronode.Malformed, "the body has no candidate")
	}
	d := json.NewDecoder(a.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		if e, ok := errors.AsType[*macronode.Error](err); ok {
			return nil, e
		}
		return nil, macronode.Wrap(macronode.Malformed, "the body is not the JSON that this route takes", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, macronode.Errorf(macronode.Malformed, "bytes follow the JSON document")
	}
	if len(in.Decisions) > record.MaxDecisions {
		return nil, macronode.Errorf(macronode.TooLarge, "at most %d decisions are replayed", record.MaxDecisions)
	}
	b, err := in.payload()
	if err != nil {
		return nil, macronode.Wrap(macronode.Invalid, "the candidate: "+err.Error(), err)
	}
	if in.Decisions == nil {
		in.Decisions = s.cfg.Watch.Decisions(record.MaxDecisions)
	}
	report, err := Replay(ctx, b, in.Decisions)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, macronode.Wrap(macronode.Invalid, "the candidate: "+err.Error(), err)
	}
	return jsonDocument(report)
}

// payload is the candidate's, bounded before it is parsed.
func (in *ReplayRequest) payload() ([]byte, error) {
	switch {
	case (in.Bundle == nil) == (in.Sources == nil):
		return nil, errors.New("give bundle or sources")
	case in.Bundle != nil:
		if len(in.Bundle) > payload.MaxEnvelopeBytes {
			return nil, errors.New("the bundle is too large")
		}
		if env, err := bundle.Decode(in.Bundle); err == nil {
			return env.Payload, nil
		}
		return in.Bundle, nil
	}
	src, total := Sources{}, 0
	for name, text := range in.Sources {
		if total += len(text); total > payload.MaxBytes {
			return nil, errors.New("the sources are too large")
		}
		src[name] = []byte(text)
	}
	b, err := payload.Assemble(src, Meta{Version: 1, Issued: time.Now()})
	return b, err
}

// Replay asks the candidate every recorded question again. Its own tests may
// fail: that is a finding of policy test, and no reason not to look.
func Replay(ctx context.Context, candidate []byte, list []record.Decision) (record.Report, error) {
	set, err := rules.LoadUntested(candidate)
	if err != nil {
		return record.Report{}, err
	}
	return record.Replay(ctx, set, list)
}

// ReadDecisions reads decisions as the node exports them, one a line.
func ReadDecisions(r io.Reader) ([]record.Decision, error) { return record.Read(r) }
