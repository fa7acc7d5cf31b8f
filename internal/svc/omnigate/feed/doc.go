// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package feed is the facet of posts that reach followers: a post of an author comes
// into the timeline of everyone who has an edge of type follow to the author.
//
// # Promises
//
//   - A post is durable when it is answered, and so is the work of bringing it to the
//     followers. That work goes on after a restart, from where it was.
//   - A step of the work, the entries in timelines and the place that it came to, is one
//     transaction. So a follower has a post once, however often the node is killed.
//   - Who follows when the work comes by gets the post: someone who begins to follow
//     meanwhile may or may not, and nobody gets what was published before. Who stops
//     following keeps what came.
//   - A timeline is read newest first, by the time of publishing. Posts that are
//     unpublished are gone from every timeline at once.
//   - A timeline keeps its newest posts, as many as facets.feed.max_entries says; up to
//     an eighth more may be there before the oldest go. The same holds of an author's
//     own posts: one that goes is unpublished.
//   - Posts of one author are in the order in which they were published. A step
//     backwards of the machine's clock does not change that while the node runs.
//   - Watches get what comes into a timeline while they are open, and with the id of the
//     last post that they saw what is newer. One that does not keep up is told so and
//     reads again.
//
// # Layout
//
//	feed/ tenant(16) p post(16)            -> version(1) flags(1) delivered(4) len(2) len(2) author item text
//	feed/ tenant(16) a author post(16)     -> empty: an author's posts
//	feed/ tenant(16) t follower post(16)   -> empty: a timeline
//	feed/ tenant(16) c follower            -> entries(4): of a timeline
//	feed/ tenant(16) x author              -> posts(4): of an author
//	feed/ tenant(16) w post(16)            -> version(1) mode(1) len(2) author, place: work
//	feed/ tenant(16) n                     -> posts(8) pending(8)
//
// A post's id is a ULID: its time in milliseconds, then chance.
package feed
