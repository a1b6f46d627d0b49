package synology

// Open is that of the kind, for tests that do not want to wait for a NAS that is down.
var Open = open
