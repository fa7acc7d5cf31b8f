// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// The actions.
const (
	actCreate macronode.Action = "kms:create"
	actList   macronode.Action = "kms:list"
	actPut    macronode.Action = "kms:put"
	actSign   macronode.Action = "kms:sign"
	actVerify macronode.Action = "kms:verify"
	actWrap   macronode.Action = "kms:wrap"
	actUnwrap macronode.Action = "kms:unwrap"
	actRotate macronode.Action = "kms:rotate"
	actDelete macronode.Action = "kms:delete"
	actCSR    macronode.Action = "kms:csr"
)

var pageParams = []macronode.Param{
	{Name: "cursor", Type: "string", Text: "Where the page begins: the cursor of the page before."},
	{Name: "limit", Type: "integer", Text: "Entries in a page: 1 to 1000, 100 where it is missing."},
}

// Routes lists what callers can ask of the KMS.
func (s *Service) Routes() []macronode.Route {
	routes := []macronode.Route{
		{Handler: s.listKeys, Binding: macronode.Binding{
			Op: "kms.list", Method: "GET", Pattern: "/v1/kms/keys", Action: actList, Class: macronode.CoreRead,
			Doc: macronode.Doc{Summary: "Lists keys and their public halves", Query: pageParams, Response: keyList{}},
		}},
		{Handler: s.idem.Wrap(s.createKey), Binding: macronode.Binding{
			Op: "kms.create", Method: "POST", Pattern: "/v1/kms/keys", Action: actCreate, Class: macronode.CoreWrite,
			Write: true, MaxBody: macronode.BodyDefault, Cost: 2,
			Doc: macronode.Doc{Summary: "Creates a key of purpose app or tls", Request: createRequest{}, Response: kms.KeyInfo{}, Status: []int{201, 200},
				Kinds: []macronode.Kind{macronode.Conflict, macronode.Invalid}},
		}},
		{Handler: s.idem.Wrap(s.rotateKey), Binding: macronode.Binding{
			Op: "kms.rotate", Method: "POST", Pattern: "/v1/kms/keys/{key}/rotate", Action: actRotate, Class: macronode.CoreWrite,
			Write: true, ResourceArg: "key", Cost: 2,
			Doc: macronode.Doc{Summary: "Adds a version to a key", Response: rotateReply{}, Kinds: []macronode.Kind{macronode.NotFound, macronode.Denied}},
		}},
		{Handler: s.idem.Wrap(s.dropVersion), Binding: macronode.Binding{
			Op: "kms.version.delete", Method: "DELETE", Pattern: "/v1/kms/keys/{key}/versions/{version}", Action: actDelete, Class: macronode.CoreWrite,
			Write: true, ResourceArg: "key", Cost: 2,
			Doc: macronode.Doc{Summary: "Ends an old version of a key of purpose app or tls, for good", Response: kms.KeyInfo{},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.Denied, macronode.Conflict}},
		}},
		{Handler: s.csr, Binding: macronode.Binding{
			Op: "kms.csr", Method: "POST", Pattern: "/v1/kms/keys/{key}/csr", Action: actCSR, Class: macronode.CoreRead, ResourceArg: "key",
			MaxBody: macronode.BodyDefault, Cost: 2,
			Doc: macronode.Doc{Summary: "Makes a certificate request (PKCS #10) of a key of purpose tls", Request: csrRequest{}, Response: csrReply{},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.Denied, macronode.Invalid}},
		}},
		{Handler: s.publicKey, Binding: macronode.Binding{
			Op: "kms.public", Method: "GET", Pattern: "/v1/kms/keys/{key}/public", Action: actList, Class: macronode.CoreRead, ResourceArg: "key",
			Doc: macronode.Doc{Summary: "Returns the public halves of a key, every version", Response: kms.KeyInfo{}, Kinds: []macronode.Kind{macronode.NotFound}},
		}},
		{Handler: s.sign, Binding: macronode.Binding{
			Op: "kms.sign", Method: "POST", Pattern: "/v1/kms/keys/{key}/sign", Action: actSign, Class: macronode.CoreRead, ResourceArg: "key",
			MaxBody: macronode.BodyDefault, Cost: 2,
			Doc: macronode.Doc{Summary: "Signs a message with a key of purpose app", Request: signRequest{}, Response: signReply{},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.Denied}},
		}},
		{Handler: s.verify, Binding: macronode.Binding{
			Op: "kms.verify", Method: "POST", Pattern: "/v1/kms/keys/{key}/verify", Action: actVerify, Class: macronode.CoreRead, ResourceArg: "key",
			MaxBody: macronode.BodyDefault,
			Doc: macronode.Doc{Summary: "Verifies a signature by any version of a key of purpose app", Request: verifyRequest{}, Response: verifyReply{},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.Denied}},
		}},
		{Handler: s.wrap, Binding: macronode.Binding{
			Op: "kms.wrap", Method: "POST", Pattern: "/v1/kms/keys/{key}/wrap", Action: actWrap, Class: macronode.CoreRead, ResourceArg: "key",
			MaxBody: macronode.BodyDefault,
			Doc: macronode.Doc{Summary: "Encrypts up to 64 KiB with a key of purpose app", Request: wrapRequest{}, Response: wrapReply{},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.Denied, macronode.TooLarge}},
		}},
		{Handler: s.unwrap, Binding: macronode.Binding{
			Op: "kms.unwrap", Method: "POST", Pattern: "/v1/kms/keys/{key}/unwrap", Action: actUnwrap, Class: macronode.CoreRead, ResourceArg: "key",
			MaxBody: macronode.BodyDefault,
			Doc: macronode.Doc{Summary: "Decrypts what wrap made, by any version", Request: unwrapRequest{}, Response: unwrapReply{},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.Denied, macronode.Invalid}},
		}},
		{Handler: s.putObject, Binding: macronode.Binding{
			Op: "kms.object.put", Method: "PUT", Pattern: "/v1/kms/objects/{object}", Action: actPut, Class: macronode.CoreWrite,
			Write: true, ResourceArg: "object", MaxBody: macronode.BodyDefault, Cost: 2,
			Doc: macronode.Doc{Summary: "Keeps the body as an object's next version",
				Query:       []macronode.Param{{Name: "version", Type: "integer", Text: "The version this is to be: the newest plus one."}},
				RequestType: "application/octet-stream", Response: kms.ObjectInfo{}, Status: []int{201, 200},
				Kinds: []macronode.Kind{macronode.Conflict, macronode.Invalid, macronode.TooLarge}},
		}},
		{Handler: s.listObjects, Binding: macronode.Binding{
			Op: "kms.object.list", Method: "GET", Pattern: "/v1/kms/objects", Action: actList, Class: macronode.CoreRead,
			Doc: macronode.Doc{Summary: "Lists the objects' versions with size and hash", Query: pageParams, Response: objectList{}},
		}},
	}
	for i := range routes {
		b := &routes[i].Binding
		b.Service, b.OAP, b.Resource = Name, macronode.AppKMS, macronode.KeyResource
		h := routes[i].Handler
		routes[i].Handler = operatorOnly(h)
	}
	return routes
}
