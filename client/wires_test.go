// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client/internal/oapserve"
	"github.com/rustyonions/macronode/client/internal/oapwire"
	"github.com/rustyonions/macronode/client/internal/optable"
)

// overOAPName begins the names of tests whose nodes are spoken to over OAP/1.
const overOAPName = "TestOverOAP/"

// testTable is the node's, with /x in all methods.
func testTable() *optable.Table {
	routes := optable.Routes()
	for _, m := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
		routes = append(routes, optable.Route{Op: macronode.Op("x." + m), App: 1, Method: m, Pattern: "/x"})
	}
	return optable.New(routes)
}

// dialOAP is dial over OAP/1.
func dialOAP(t *testing.T, h http.Handler, o Options) *Client {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := oapserve.New(oapserve.Config{Handler: h, Table: testTable()})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	c, err := Dial("oap://"+ln.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	c.wire = overOAP{oapwire.New(oapwire.Config{Table: testTable(), UA: "test", DialTimeout: dialTimeout, IdleTimeout: idleTimeout,
		Connect: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
		}})}
	t.Cleanup(c.Close)
	return c
}

// TestOverOAP runs what holds for HTTP over OAP/1 too.
func TestOverOAP(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"RetryRules": TestRetryRules, "EarlyRefusal": TestEarlyRefusal, "BodyThatFails": TestBodyThatFailsIsNotRetried,
		"WaitEnds": TestWaitEndsWithContext, "BodyIsGivenBack": TestBodyIsGivenBack,
		"GetGoesOn": TestGetGoesOn, "GetGivesUp": TestGetGivesUp, "GetIntoFullDisk": TestGetIntoFullDisk, "GetTooLong": TestGetTooLong,
		"DeleteTwice": TestDeleteTwice, "PutOfFiles": TestPutOfFiles, "Put": TestPut, "PutFromTheMiddle": TestPutFromTheMiddle,
		"PutWrongAddress": TestPutWrongAddress, "GetUnproven": TestGetUnproven, "GetIgnoredRange": TestGetIgnoredRange,
		"StatAndDelete": TestStatAndDelete, "ListPages": TestListPages, "Get": TestGet, "HaveDamaged": TestHaveDamaged,
		"ProvenGetGoesOn": TestProvenGetGoesOn, "TooMuchUnseen": TestTooMuchUnseen, "ProgressForgives": TestProgressForgives,
		"ProvenGetGivesUp": TestProvenGetGivesUp, "GetRange": TestGetRange,
		"GetRangeBends": TestGetRangeBends, "ReaderEndsWithContext": TestReaderEndsWithContext, "WriterFails": TestWriterFails,
		"OlderNode": TestOlderNode, "ProvenGetTooLong": TestProvenGetTooLong,
	} {
		t.Run(name, test)
	}
}

// speaksOAP reports whether a test's node is spoken to over OAP/1.
func speaksOAP(t *testing.T) bool { return strings.HasPrefix(t.Name(), overOAPName) }
