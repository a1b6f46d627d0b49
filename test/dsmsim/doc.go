// Package dsmsim is a Synology NAS for tests: DSM's Web API with its quirks, as they were measured on
// real machines, over a [Plane] that has the data. It shares no code with the client that is tested on it,
// so that both do not have one misreading of DSM in common.
//
// A [Sim] is an http.Handler; [Serve] puts it behind TLS as a NAS is. Every way in which a call can go wrong is a
// [Fault], which is data: a test can go through all faults of all methods. What nobody has measured, and is therefore
// an assumption, is marked "assumed" where it is decided.
package dsmsim
