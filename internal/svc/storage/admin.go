// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/collect"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
	"github.com/rustyonions/macronode/internal/svc/storage/scrub"
)

const (
	maxAdminBody = 4 << 10
	// maxBadLines bounds the damaged objects that a status names.
	maxBadLines = 100
)

// CollectRequest asks for a collection.
type CollectRequest struct {
	DryRun bool `json:"dry_run"`
	// Share also looks for copies that tenants could share; true where missing.
	Share *bool `json:"share,omitempty"`
}

// Status is what the store and its background work look like.
type Status struct {
	Volumes     int          `json:"volumes"`
	LiveBytes   int64        `json:"live_bytes"`
	DeadBytes   int64        `json:"dead_bytes"`
	Reserved    int64        `json:"reserved_bytes"` // of quotas, by uploads under way
	Uploads     int64        `json:"uploads"`
	Released    int64        `json:"released"` // places that wait to be removed
	Scrub       scrub.Status `json:"scrub"`
	Quarantined int64        `json:"quarantined"`
	Damaged     []Damaged    `json:"damaged"` // at most 100
}

// Damaged is one object in quarantine.
type Damaged struct {
	Addr    string   `json:"addr"`
	Tenants []string `json:"tenants"`
	SinceMS int64    `json:"since_ms"`
	Where   string   `json:"where"`
}

func (s *Service) adminRoutes() []macronode.Route {
	return []macronode.Route{
		{Handler: s.status, Binding: macronode.Binding{
			Op: "admin.storage", Service: Name, Method: "GET", Pattern: "/v1/admin/storage", OAP: macronode.AppNode, Action: "node:status", Resource: macronode.NodeResource,
			Class: macronode.Control, MaxBody: macronode.BodyNone,
			Doc: macronode.Doc{Summary: "Space, collection, scrub and damaged objects", Response: Status{}},
		}},
		{Handler: s.idem.Wrap(s.collect), Binding: macronode.Binding{
			Op: "admin.collect", Service: Name, Method: "POST", Pattern: "/v1/admin/collect", OAP: macronode.AppNode, Action: "node:collect", Resource: macronode.NodeResource,
			Class: macronode.Control, MaxBody: maxAdminBody, Write: true, LongRunning: true, Audit: macronode.AuditBefore,
			Doc: macronode.Doc{
				Summary: "Give space back now, or with dry_run say what would be given back and why",
				Request: CollectRequest{}, Response: collect.Report{}, Kinds: []macronode.Kind{macronode.DiskFull},
			},
		}},
	}
}

// collect does one pass and answers with its report.
func (s *Service) collect(ctx context.Context, _ *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
	var q CollectRequest
	if len(bytes.TrimSpace(body)) > 0 {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			return nil, macronode.Errorf(macronode.Malformed, "the body is not the document of this route: %w", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return nil, macronode.Errorf(macronode.Malformed, "the body has more than one document")
		}
	}
	report, err := s.Collect(ctx, collect.Options{DryRun: q.DryRun, Share: q.Share == nil || *q.Share})
	if err != nil {
		return nil, s.metaError(err)
	}
	return jsonReply(report)
}

// Collect does one pass of the collection now.
func (s *Service) Collect(ctx context.Context, o collect.Options) (*collect.Report, error) {
	return s.collector.Run(ctx, o)
}

func (s *Service) status(ctx context.Context, _ *macronode.Admitted) (*macronode.Reply, error) {
	st := Status{Damaged: []Damaged{}, Scrub: s.scrubber.Status()}
	sum := s.ledger.Reserved()
	st.Reserved, st.Uploads = sum.Bytes, sum.Objects
	volumes, err := s.objects.Volumes(ctx)
	if err != nil {
		return nil, store.Refusal(err)
	}
	st.Volumes = len(volumes)
	for _, v := range volumes {
		st.LiveBytes += max(v.Live, 0)
		st.DeadBytes += max(v.Dead, 0)
	}
	err = s.kv.View(ctx, func(r store.Reader) error {
		st.Quarantined, st.Released, st.Damaged = 0, 0, st.Damaged[:0]
		var bad error
		err := refs.EachBad(r, func(b refs.Bad) bool {
			if st.Quarantined++; len(st.Damaged) == maxBadLines {
				return true
			}
			var owners []refs.Owner
			if owners, bad = refs.Owners(r, b.Loc); bad != nil || len(owners) == 0 {
				return bad == nil
			}
			line := Damaged{Addr: owners[0].Addr.String(), SinceMS: b.Since, Where: b.Where}
			for _, o := range owners {
				line.Tenants = append(line.Tenants, o.Tenant.String())
			}
			st.Damaged = append(st.Damaged, line)
			return true
		})
		if err := errors.Join(err, bad); err != nil {
			return err
		}
		lo := []byte(refs.FreePrefix)
		return r.Scan(lo, refs.After(lo), func(_, _ []byte) bool { st.Released++; return true })
	})
	if err != nil {
		return nil, s.metaError(err)
	}
	return jsonReply(st)
}

func jsonReply(v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return &macronode.Reply{Status: 200, ContentType: "application/json", Body: b}, nil
}
