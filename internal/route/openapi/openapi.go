// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package openapi writes the OpenAPI 3.1 document of the routes a node serves,
// so that the document cannot say anything that the route table does not.
package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/swaggest/jsonschema-go"
	"github.com/swaggest/openapi-go"
	"github.com/swaggest/openapi-go/openapi31"

	"github.com/rustyonions/macronode"
)

// Document is the API's description and its schemas by name.
type Document struct {
	JSON    []byte
	Schemas map[string][]byte
}

const (
	securityName = "capability"
	problemType  = "application/problem+json"
	rawType      = "application/octet-stream"
	description  = "One binary for a team's programs: content-addressed objects, names, queues and a record of what happened, behind one wall. " +
		"Every route but the four probes needs a capability, shown as a bearer token."
)

// oapKey names, for each operation, the app_proto_id under which OAP/1 has it; its
// op there is the operationId, its arguments are the parameters of path and query.
const oapKey = "x-oap-app"

var parameter = regexp.MustCompile(`\{([a-z_]+)(\.\.\.)?\}`)

// schemaName is a type's name in the document, which must not tell how a service
// is cut into packages: generated clients are named for it.
func schemaName(_ reflect.Type, name string) string {
	if rest, ok := strings.CutPrefix(name, "Kmsapi"); ok {
		return "Kms" + rest
	}
	return strings.TrimPrefix(name, "Macronode")
}

// Generate describes bindings; version is the API's, not the binary's.
func Generate(bindings []*macronode.Binding, version string) (*Document, error) {
	r := openapi31.NewReflector()
	r.Spec.Info.WithTitle("macronode").WithVersion(version).WithDescription(description)
	r.DefaultOptions = append(r.DefaultOptions, jsonschema.InterceptDefName(schemaName))
	r.SpecEns().ComponentsEns().WithSecuritySchemesItem(securityName, openapi31.SecuritySchemeOrReference{
		SecurityScheme: (&openapi31.SecurityScheme{}).WithHTTPBearer(openapi31.SecuritySchemeHTTPBearer{Scheme: "bearer"}).
			WithDescription("A capability: ron1_ and base64url."),
	})
	for _, b := range bindings {
		forms := append([]string{b.Label()}, b.Aliases...)
		for i, form := range forms {
			method, pattern, _ := strings.Cut(form, " ")
			if err := add(r, b, method, pattern, i); err != nil {
				return nil, fmt.Errorf("openapi: %s: %w", b.Op, err)
			}
		}
	}
	doc, err := json.MarshalIndent(r.Spec, "", "  ")
	if err != nil {
		return nil, err
	}
	out := &Document{JSON: append(doc, '\n'), Schemas: make(map[string][]byte)}
	for name, s := range r.Spec.Components.Schemas {
		s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		text, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return nil, err
		}
		out.Schemas[name] = []byte(strings.ReplaceAll(string(text), "#/components/schemas/", "") + "\n")
		delete(s, "$schema")
	}
	return out, nil
}

func add(r *openapi31.Reflector, b *macronode.Binding, method, pattern string, alias int) error {
	oc, err := r.NewOperationContext(strings.ToLower(method), parameter.ReplaceAllString(pattern, "{$1}"))
	if err != nil {
		return err
	}
	id := string(b.Op)
	if alias > 0 {
		id = fmt.Sprintf("%s.alias%d", id, alias)
	}
	oc.SetID(id)
	oc.SetSummary(b.Doc.Summary)
	oc.SetTags(b.Service)
	if !b.Public {
		oc.AddSecurity(securityName)
	}
	op := oc.(openapi31.OperationExposer).Operation()
	op.Parameters = parameters(b, pattern)
	if b.OAP != macronode.AppControl && alias == 0 {
		op.WithMapOfAnythingItem(oapKey, b.OAP)
	}
	describeRequest(oc, op, b)
	describeAnswers(oc, op, b, method)
	return r.AddOperation(oc)
}

func parameters(b *macronode.Binding, pattern string) []openapi31.ParameterOrReference {
	var out []openapi31.ParameterOrReference
	take := func(in openapi31.ParameterIn, p macronode.Param) {
		param := (&openapi31.Parameter{}).WithName(p.Name).WithIn(in).WithDescription(p.Text).WithRequired(p.Required).
			WithSchema(map[string]any{"type": p.Type})
		out = append(out, openapi31.ParameterOrReference{Parameter: param})
	}
	for _, m := range parameter.FindAllStringSubmatch(pattern, -1) {
		take(openapi31.ParameterInPath, macronode.Param{Name: m[1], Type: "string", Text: pathText[m[1]], Required: true})
	}
	for _, p := range b.Doc.Query {
		take(openapi31.ParameterInQuery, p)
	}
	for _, p := range b.Doc.Headers {
		take(openapi31.ParameterInHeader, p)
	}
	if b.Write {
		take(openapi31.ParameterInHeader, macronode.Param{Name: "Idempotency-Key", Type: "string", Required: b.NeedsKey,
			Text: "Makes a retry safe: at most 128 visible ASCII characters."})
		take(openapi31.ParameterInHeader, macronode.Param{Name: "Prefer", Type: "string",
			Text: "audit-receipt: answer with the field Audit-Receipt, a proof that the log holds the record of this change; audit-receipt=link: with a Link to it."})
	}
	return out
}

// pathText says what the path parameters mean.
var pathText = map[string]string{
	"addr":   "Address of an object: b3: and 64 lower-case hex digits.",
	"tenant": "A tenant's id or label.",
	"key":    "Name of a key.",
	"object": "Name of a stored object of the key service.",
	"name":   "Name.",
	"topic":  "A topic's name: 1 to 128 of a-z, 0-9, \".\", \"_\" and \"-\", beginning with a letter or digit.",
	"msg_id": "A message's id.",
	"job":    "Id of a redrive job.",
}

func describeRequest(oc openapi.OperationContext, op *openapi31.Operation, b *macronode.Binding) {
	switch {
	case b.Doc.Request != nil:
		oc.AddReqStructure(b.Doc.Request, openapi.WithContentType("application/json"))
	case b.MaxBody != macronode.BodyNone:
		typ := b.Doc.RequestType
		if typ == "" {
			typ = rawType
		}
		op.RequestBodyEns().RequestBodyEns().WithContentItem(typ, openapi31.MediaType{
			Schema: map[string]any{"type": "string", "format": "binary"}})
	}
}

func describeAnswers(oc openapi.OperationContext, op *openapi31.Operation, b *macronode.Binding, method string) {
	codes := b.Doc.Status
	if len(codes) == 0 {
		codes = []int{200}
	}
	for _, code := range codes {
		if b.Doc.Response != nil && method != "HEAD" {
			opts := []openapi.ContentOption{openapi.WithHTTPStatus(code)}
			if b.Doc.ResponseType != "" {
				opts = append(opts, openapi.WithContentType(b.Doc.ResponseType))
			}
			oc.AddRespStructure(b.Doc.Response, opts...)
			continue
		}
		resp := openapi31.Response{Description: statusText(code)}
		if typ := b.Doc.ResponseType; typ != "" && code != 204 && code != 304 && method != "HEAD" {
			resp.WithContentItem(typ, openapi31.MediaType{Schema: map[string]any{"type": "string", "format": "binary"}})
		}
		op.ResponsesEns().WithMapOfResponseOrReferenceValuesItem(fmt.Sprint(code), openapi31.ResponseOrReference{Response: &resp})
	}
	if !b.Public {
		oc.AddRespStructure(macronode.Problem{}, openapi.WithContentType(problemType), func(cu *openapi.ContentUnit) {
			cu.IsDefault, cu.Description = true, "A refusal (RFC 9457)."
		})
	}
}

func statusText(code int) string {
	switch code {
	case 201:
		return "Created"
	case 202:
		return "Accepted"
	case 204:
		return "Done"
	case 206:
		return "Part of the object"
	case 304:
		return "Not modified"
	default:
		return "OK"
	}
}
