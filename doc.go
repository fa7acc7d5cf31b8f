// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package macronode is the vocabulary of the node: the words that every other
// package speaks, and nothing that does anything. It opens no file and no
// socket, and imports no other package of this module.
//
// # The path of a request
//
//	bytes   listen/gateway or listen/oapd make a Call (nothing in it is trusted)
//	        wall.Serve(ctx, call, send)
//	  1       lookup    which Route is meant; reads a table, has no effect
//	  2       shape     sizes and headers against the route's limits
//	  3       gate      is the node draining?
//	  4       auth      capability -> Principal and Tenant, or Anonymous
//	  5       policy    may this Principal do this Action on this Resource?
//	  6       quota     tenant and capability buckets, then node admission
//	  7       oblige    what must also hold first (a zero-knowledge proof)
//	  8       handler   one service's rule, one store transaction -> Reply
//	  9       send      the listener streams the Reply
//	  10      settle    quota, audit, gate
//	bytes   out; an error travels up once and the listener renders it
//
// Only the wall makes an Admitted, and handlers accept nothing else, so no
// handler can be reached around the wall.
//
// # Where to find things
//
//   - the words: macronode.go, call.go, errors.go here; GLOSSARY.md for prose
//   - the one pipeline: internal/wall/wall.go
//   - the endpoints: test/testdata/routes.golden
//   - the services: internal/svc
//   - the wiring: internal/node/node.go
package macronode
