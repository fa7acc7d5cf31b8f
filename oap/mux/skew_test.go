// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

// TestTomorrowsAnswer: what a later node says in its answer to HELLO beyond what is
// known is ignored; who does not speak this version, or makes no sense, is left.
func TestTomorrowsAnswer(t *testing.T) {
	const known = `"max_frame":1048576,"max_inflight":32,"max_streams":100`
	for _, c := range []struct {
		answer string
		fits   bool
	}{
		{`{` + known + `}`, true},
		{`{` + known + `,"versions":[1,2,9],"transports":["quic","tcp","carrier-pigeon"],"flags_supported":["COMP","SIGNED","REQ"],"more":{"a":[1,null]},"ua":7}`, true},
		{`{` + known + `,"versions":[],"transports":[],"flags_supported":[]}`, true},
		{`{"max_frame":4294967295,"max_inflight":1000000,"max_streams":1000000,"versions":[1]}`, true},
		{`{` + known + `,"versions":[2,3]}`, false},
		{`{"max_frame":38,"max_inflight":32,"max_streams":100}`, false},
		{`{"max_frame":1048576,"max_inflight":0,"max_streams":100}`, false},
		{`{"max_frame":"large"}`, false},
		{`[]`, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			a.SetDeadline(time.Now().Add(time.Minute))
			s, err := New(b, openerConfig())
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- s.Run(context.Background()) }()
			in := oap.NewReader(a, oap.MaxFrameBytes)
			f, err := in.Next()
			if err != nil {
				t.Fatal(err)
			}
			say(t, a, oap.Answer(&f.Header, 200, 0, []byte(c.answer)))
			if !c.fits {
				go func() { // until it closes
					for err == nil {
						_, err = in.Next()
					}
				}()
				if fault, ok := errors.AsType[*Fault](<-ended); !ok || fault.Reason != flow.ReasonHello {
					t.Errorf("%s: %v", c.answer, fault)
				}
				return
			}
			if _, err := s.Open(t.Context(), Start{App: 1, Head: []byte("head"), End: true}); err != nil {
				t.Errorf("%s: %v", c.answer, err)
			}
			if f, err := in.Next(); err != nil || f.Flags&oap.START == 0 || f.Flags&oap.COMP != 0 {
				t.Errorf("%s: %v, %v", c.answer, f.Flags, err)
			}
			s.Close()
			a.Close()
			<-ended
		})
	}
}
