// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"testing"

	"github.com/rustyonions/macronode"
)

func TestGenerate(t *testing.T) {
	type item struct {
		Addr string `json:"addr"`
	}
	doc, err := Generate([]*macronode.Binding{
		{Op: "object.put", Service: "svc-storage", Method: "PUT", Pattern: "/o/{addr}", Action: "object:put", Write: true, MaxBody: macronode.BodyObject,
			Doc: macronode.Doc{Summary: "Stores", Response: item{}, Status: []int{200, 201}}},
		{Op: "object.post", Service: "svc-storage", Method: "POST", Pattern: "/o", OAP: macronode.AppObject, Aliases: []string{"POST /put"}, Action: "object:put", MaxBody: macronode.BodyObject,
			Doc: macronode.Doc{Summary: "Stores", Response: item{}, Status: []int{201}}},
		{Op: "probe.health", Service: "ron-metrics", Method: "GET", Pattern: "/healthz", Public: true, Doc: macronode.Doc{Summary: "Alive", ResponseType: "text/plain"}},
		{Op: "tenant.create", Service: "ron-auth", Method: "POST", Pattern: "/v1/tenants", Action: "tenant:admin", MaxBody: macronode.BodyDefault, Doc: macronode.Doc{Request: item{}}},
	}, "v1")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string           `json:"operationId"`
			App         *uint16          `json:"x-oap-app"`
			Parameters  []map[string]any `json:"parameters"`
			Security    []map[string]any `json:"security"`
			Responses   map[string]any   `json:"responses"`
			RequestBody map[string]any   `json:"requestBody"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(doc.JSON, &got); err != nil {
		t.Fatal(err)
	}
	put := got.Paths["/o/{addr}"]["put"]
	if got.OpenAPI[:3] != "3.1" || put.OperationID != "object.put" || len(put.Parameters) != 3 || len(put.Security) != 1 {
		t.Errorf("put: %+v", put)
	}
	for _, code := range []string{"200", "201", "default"} {
		if put.Responses[code] == nil {
			t.Errorf("no answer %s: %v", code, put.Responses)
		}
	}
	if h := got.Paths["/healthz"]["get"]; len(h.Security) != 0 || h.Responses["default"] != nil {
		t.Errorf("a probe needs nothing: %+v", h)
	}
	if got.Paths["/put"]["post"].OperationID == got.Paths["/o"]["post"].OperationID {
		t.Error("two operations of one id")
	}
	// On OAP/1 an operation has one name, and those that are not there have none.
	if app := got.Paths["/o"]["post"].App; app == nil || *app != macronode.AppObject {
		t.Errorf("app_proto_id %v of an operation that has one", app)
	}
	if got.Paths["/put"]["post"].App != nil || put.App != nil {
		t.Error("an app_proto_id from nowhere")
	}
	if got.Paths["/v1/tenants"]["post"].RequestBody == nil || doc.Schemas["Problem"] == nil {
		t.Errorf("schemas: %v", doc.Schemas)
	}
	again, _ := Generate(nil, "v1")
	if again == nil || len(again.JSON) == 0 {
		t.Error("an empty table has a document too")
	}
}
