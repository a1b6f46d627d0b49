// Package wire is the contract of package backend between two processes of one machine: a [Server]
// serves pools on a unix socket, and [Open] connects to one of them, as a backend like any other.
//
// Nothing is decided here. An error arrives with the kind and the message that it left with; a
// deadline and a cancellation reach the served backend; what it reports with backend.Progress
// reaches whoever waits. What the served pool cannot do the client cannot do either: it is a
// [backend.Proxy]. If the server does not answer, that is errs.Unavailable and never
// errs.NotFound; the client connects again by itself.
package wire

// Protocol is what this build speaks. It rises when a request gets a field that a server must not
// overlook; everything else is told by the mask, and by errs.Unsupported from a server that lacks it.
const Protocol = 1

// protocolKey is the metadata in which a client says its Protocol with every call.
const protocolKey = "dozo-protocol"
