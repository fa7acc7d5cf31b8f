// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package mux is a session of OAP/1: HELLO, streams with their two windows,
// acknowledgements, PING and GOAWAY, over one connection. The node's listener,
// the client and the sessions between nodes are the same code.
//
// A Session is made by New and lives in Run, whose goroutine reads. Frames are
// written by a goroutine that exists only while there is something to write, so
// an idle session costs one goroutine and a small buffer. All that decides which
// frame is allowed and which comes next is in package flow, which does no I/O and
// knows no clock.
//
// # Streams
//
// Open makes a stream; the other side's are handed to Config.Handle, each in a
// goroutine of its own. The opener's direction is written with Write and
// CloseWrite, the answer begins with WriteHead. Each direction may be used by
// one goroutine at a time. Head gives the first payload, whose first bytes are a
// CBOR head; after Skip of that head, Read goes on with the body.
//
// What Read (or Skip, or WriteTo) has used up is acknowledged; so a reader that
// stops, stops its own stream and no other. A side with Config.SetAside keeps a
// full window for each stream and acknowledges the connection's window as soon
// as frames are there. Of the windows, a sender leaves three quarters of the
// connection's to other streams.
//
// A COMP payload is expanded by Config.Expand, and counts as the frame that it
// came in. Ends and errors of a call are written at once, whatever else waits;
// data of streams is written a frame of each in turn.
//
// # Errors
//
// *StreamError is an error that the other side answered with, ErrCanceled a
// cancel, ErrStalled the end of a stream whose frames nobody acknowledged,
// ErrDraining that nothing was opened because the connection is about to end (it
// is safe to repeat elsewhere), and everything that the end of the session
// causes wraps ErrClosed.
package mux
