// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/registry"
)

var (
	pageParams = []macronode.Param{
		{Name: "cursor", Type: "string", Text: "the cursor of the page before"},
		{Name: "limit", Type: "integer", Text: "entries a page, 1 to 1000; 100 where missing"},
	}
	proposalParams = []macronode.Param{
		{Name: "state", Type: "string", Text: "open (where missing), closed, or how it was closed"},
		{Name: "cursor", Type: "string", Text: "the cursor of the page before"},
		{Name: "limit", Type: "integer", Text: "entries a page, 1 to 64; 16 where missing"},
	}
)

// Routes implements macronode.Service. Writes record what they do themselves, before
// they do it; so the wall adds records of refusals alone.
func (s *Service) Routes() []macronode.Route {
	return append(s.readRoutes(), s.writeRoutes()...)
}

func (s *Service) readRoutes() []macronode.Route {
	read := func(op macronode.Op, path string, h macronode.Handler, d macronode.Doc) macronode.Route {
		return macronode.Route{Handler: h, Binding: macronode.Binding{Op: op, Service: Name, Method: "GET", Pattern: "/v1/registry/" + path, OAP: macronode.AppRegistry,
			Action: "registry:read", Resource: macronode.NodeResource, Class: macronode.CoreRead, Cost: 1, MaxBody: macronode.BodyNone, Doc: d}}
	}
	missing := []macronode.Kind{macronode.NotFound, macronode.Unavailable}
	watch := read("registry.watch", "watch", s.watch, macronode.Doc{
		Summary:      "Follow the registry as server-sent events: entry, with its place as id, when a proposal was committed; proposal when one was opened, decided on or closed",
		Query:        []macronode.Param{{Name: "after", Type: "integer", Text: "place of the last entry that was seen; missing: from now on"}},
		Headers:      []macronode.Param{{Name: "Last-Event-ID", Type: "string", Text: "the same, of a stream that broke off"}},
		ResponseType: "text/event-stream",
	})
	watch.LongRunning = true
	export := read("registry.export", "export", s.export, macronode.Doc{
		Summary: "The whole chain in lines of JSON with the signed head, to be verified offline; see package registry", ResponseType: "application/x-ndjson", Kinds: missing,
	})
	export.Streaming, export.Cost = true, 8
	return []macronode.Route{
		read("registry.head", "head", s.getHead, macronode.Doc{Summary: "Where the registry's chain ends, signed by its writer", Response: Head{}, Kinds: missing}),
		read("registry.log", "log", s.getLog, macronode.Doc{
			Summary: "A part of the chain, with the proof that the signed head's chain has it there",
			Query: []macronode.Param{
				{Name: "from", Type: "integer", Text: "place of the first entry; 0 where missing"},
				{Name: "limit", Type: "integer", Text: "entries at most, 1 to 256; 16 where missing"},
			},
			Response: Log{}, Kinds: missing,
		}),
		export,
		read("registry.descriptors", "descriptors", s.listDescriptors, macronode.Doc{
			Summary: "List what is registered: nodes, services, regions, and who signs",
			Query:   append([]macronode.Param{{Name: "kind", Type: "string", Text: "node, service, region or signers alone"}}, pageParams...), Response: DescriptorList{}, Kinds: missing,
		}),
		read("registry.descriptor", "descriptors/{kind}/{name}", s.getDescriptor, macronode.Doc{Summary: "Show a descriptor; its address is its ETag", Response: Descriptor{}, Kinds: missing}),
		read("registry.proposals", "proposals", s.listProposals, macronode.Doc{Summary: "List proposals", Query: proposalParams, Response: ProposalList{}, Kinds: missing}),
		read("registry.proposal", "proposals/{id}", s.getProposal, macronode.Doc{Summary: "Show a proposal, named by its address, and who has signed", Response: Proposal{}, Kinds: missing}),
		watch,
	}
}

func (s *Service) writeRoutes() []macronode.Route {
	write := func(op macronode.Op, path string, action macronode.Action, limit int64, h idem.Handler, d macronode.Doc) macronode.Route {
		return macronode.Route{Handler: s.c.Idem.Wrap(h), Binding: macronode.Binding{Op: op, Service: Name, Method: "POST", Pattern: "/v1/registry/" + path, OAP: macronode.AppRegistry,
			Action: action, Resource: macronode.NodeResource, Class: macronode.CoreWrite, Cost: 4, MaxBody: limit, Write: true, Doc: d}}
	}
	const small = 8 << 10
	decided := []macronode.Kind{macronode.NotFound, macronode.Conflict, macronode.Invalid, macronode.Denied, macronode.Unavailable}
	return []macronode.Route{
		write("registry.propose", "proposals", "registry:propose", registry.MaxProposalBytes, s.propose, macronode.Doc{
			Summary: "Propose changes of the registry. The answer names the address by which signers approve", Request: registry.Proposal{}, Response: Proposal{}, Status: []int{201},
			Kinds: []macronode.Kind{macronode.Conflict, macronode.Invalid, macronode.QuotaObjects, macronode.Unavailable},
		}),
		write("registry.approve", "proposals/{id}/approvals", "registry:approve", registry.MaxSignaturesBytes, s.decide(registry.Approve), macronode.Doc{
			Summary: "Approve a proposal with signatures of registered signers; with enough of them it is committed", Request: Signatures{}, Response: Proposal{}, Kinds: decided,
		}),
		write("registry.reject", "proposals/{id}/rejections", "registry:approve", registry.MaxSignaturesBytes, s.decide(registry.Reject), macronode.Doc{
			Summary: "Reject a proposal with signatures of registered signers; once the others are too few, it is closed", Request: Signatures{}, Response: Proposal{}, Kinds: decided,
		}),
		write("registry.withdraw", "proposals/{id}/withdraw", "registry:propose", small, s.withdraw, macronode.Doc{
			Summary: "Withdraw a proposal, with the capability that made it", Request: Withdrawal{}, Response: Proposal{}, Kinds: decided,
		}),
		write("registry.sign", "proposals/{id}/sign", "registry:approve", small, s.signFor, macronode.Doc{
			Summary: "Sign a decision on a proposal with a key of purpose registry of the node's key service; nothing is decided by that", Request: SignRequest{}, Response: Signatures{}, Kinds: decided,
		}),
	}
}

// signFor signs a decision with a key of the key service.
func (s *Service) signFor(ctx context.Context, a *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
	var req SignRequest
	if err := readBody(body, &req); err != nil {
		return nil, err
	}
	if err := byCapability(a); err != nil {
		return nil, err
	}
	id, err := proposalID(a)
	if err != nil {
		return nil, err
	}
	ref, err := bundle.ParseRef(req.Key)
	if err != nil || ref.Kind != bundle.RefKey {
		return nil, macronode.Errorf(macronode.Invalid, "key is KMS:key/NAME, and may end in @vN")
	}
	if req.Decision != registry.Approve && req.Decision != registry.Reject {
		return nil, macronode.Errorf(macronode.Invalid, "decision is approve or reject")
	}
	if s.c.Halves == nil {
		return nil, macronode.Errorf(macronode.NotFound, "there is no such key")
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	if _, err := s.find(ctx, id); err != nil {
		return nil, err
	}
	halves, err := s.c.Halves(ref)
	if err != nil {
		return nil, err
	}
	event := macronode.AuditEvent{Stream: "node", Kind: "registry.sign", Actor: a.Actor(), Subject: subject("proposal", id),
		Attrs: map[string]any{"key": req.Key, "decision": string(req.Decision)}}
	if err := s.record(ctx, event); err != nil {
		return nil, err
	}
	list, err := registry.Sign(c.State.Registry(), id, req.Decision, halves...)
	if err != nil {
		s.failed(event, err)
		return nil, macronode.Wrap(macronode.Unavailable, "the key cannot be used now", err)
	}
	return jsonReply(200, Signatures{Signatures: list})
}
