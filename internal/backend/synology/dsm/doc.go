// Package dsm is a client of the Web API of Synology's DSM 7, as far as a backend of LUNs and shared
// folders needs it: sessions, volumes, LUNs and their snapshots, iSCSI targets, shares and NFS rules.
// There is no specification of most of it; what is known was measured on real machines.
//
// A lookup has three answers: found, errs.NotFound (DSM was asked and surely said so), and any other
// kind (it could not be asked). What reads is asked again when no answer came; what changes something
// is sent once. A call whose session had expired is sent again after a new login, because DSM
// refuses such a call before it does anything. So after ANY error of a method that creates, look the
// name up: it may be there, since the answer may have been lost, and DSM itself has an error
// (18990068) that it gives for LUNs that it has created.
//
// Credentials that DSM refused are not sent again until they are changed, since DSM blocks the
// address of whoever tries too often. Everything is POSTed over verified HTTPS, so that no secret is
// in a URL; none is in an error or a log either.
package dsm
