package dsm

import (
	"errors"
	"fmt"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Refusal is an error that DSM gave a code for. errors.As finds it in what methods return, which has
// the kind of the code.
type Refusal struct {
	API, Method string
	Code        int
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s.%s: DSM error %d: %s", r.API, r.Method, r.Code, meaningOf(r.API, r.Code).text)
}

// CodeOf returns DSM's code in an error, 0 if it gave none.
func CodeOf(err error) int {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return 0
}

// lost is a call without an answer of DSM's. If it was sent, it may have been done.
type lost struct {
	sent bool
	err  error
}

func (l *lost) Error() string {
	if l.sent {
		return l.err.Error() + " (it may have been done)"
	}
	return l.err.Error()
}

func (l *lost) Unwrap() error { return l.err }

// refuse makes the error of a code, with its kind.
func refuse(c call, code int) error {
	return errs.E(meaningOf(c.api, code).kind, "%w", &Refusal{c.api, c.method, code})
}

// isExpired reports whether a call was refused for its session, before anything was done. 105 is
// also said of missing rights: the caller tells them apart by trying with a new session.
func isExpired(err error) bool {
	switch CodeOf(err) {
	case codeNoRight, 106, 107, 119:
		return true
	}
	return false
}

// isBusy reports whether DSM refused for a reason that goes away.
func isBusy(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && meaningOf(r.API, r.Code).passes
}

type meaning struct {
	kind   errs.Kind
	text   string
	passes bool // ask again
}

// Codes of ceilings, for who wants to say how high they are.
const (
	CodeNoMoreLUNs      = 18990541
	CodeNoMoreTargets   = 18990542
	CodeNoMoreSnapshots = 18990543
)

// Codes that are looked at.
const (
	codeNoRight       = 105
	codeNoVolume      = 117
	codeBadCredential = 400
	codeOTPNeeded     = 403
	codeBlocked       = 407
	codeLastOfLogin   = 411
	codeBadUUID       = 18990505
	codeBadTarget     = 18990710
	codeBadParam      = 18990004
)

// meaningOf looks a code up for an API: the small ones mean something else in each.
func meaningOf(api string, code int) meaning {
	for _, table := range []map[int]meaning{codesOf[api], commonCodes, sanCodes} {
		if m, ok := table[code]; ok {
			return m
		}
	}
	return meaning{kind: errs.Internal, text: "a code that this client does not know"}
}

var busy = meaning{errs.Unavailable, "the network is unstable or the system is busy", true}

var commonCodes = map[int]meaning{
	100: {kind: errs.Internal, text: "unknown error"},
	101: {kind: errs.Internal, text: "a parameter is missing or wrong"},
	102: {kind: errs.Unsupported, text: "there is no such API: is SAN Manager installed?"},
	103: {kind: errs.Unsupported, text: "there is no such method in this DSM"},
	104: {kind: errs.Unsupported, text: "this DSM does not have this version of the API"},
	105: {kind: errs.Unavailable, text: "the account may not do this: it has to be in the group administrators"},
	106: {kind: errs.Unavailable, text: "the session was idle for too long"},
	107: {kind: errs.Unavailable, text: "the session was ended by another login"},
	109: busy, 110: busy, 111: busy, 117: busy, 118: busy,
	114: {kind: errs.Internal, text: "a parameter is missing"},
	119: {kind: errs.Unavailable, text: "the session does not exist any more"},
}

// codesOf are the codes that have a meaning of their own in one API.
var codesOf = map[string]map[int]meaning{
	authAPI: {
		400: {kind: errs.Unavailable, text: "no such account, or a wrong password"},
		401: {kind: errs.Unavailable, text: "the account is disabled"},
		402: {kind: errs.Unavailable, text: "the account may not log in: it has to be in the group administrators, and its password must not have expired"},
		403: {kind: errs.Unavailable, text: "a second factor is needed: enrol this device with a one-time code"},
		404: {kind: errs.Unavailable, text: "the second factor was wrong"},
		406: {kind: errs.Unavailable, text: "DSM demands a second factor of this account, and it has none yet"},
		407: {kind: errs.Unavailable, text: "this address is blocked for too many failed logins: see Control Panel, Security, Protection"},
		408: {kind: errs.Unavailable, text: "the password has expired and cannot be changed"},
		409: {kind: errs.Unavailable, text: "the password has expired"},
		410: {kind: errs.Unavailable, text: "the password has to be changed at the first login"},
		411: {kind: errs.Unavailable, text: "the account is locked"},
	},
	volumeAPI: {117: {kind: errs.NotFound, text: "there is no such volume"}},
	shareAPI:  shareCodes, shareSnapshotAPI: shareCodes, sharePermissionAPI: shareCodes,
	nfsAPI: {2001: {kind: errs.Internal, text: "NFS settings have to be set as a whole"}},
	nfsRulesAPI: {
		2301: {kind: errs.Invalid, text: "a rule of NFS is wrong or lacks a field"},
		2370: {kind: errs.NotFound, text: "there is no such share"},
	},
}

var shareCodes = map[int]meaning{
	402:  {kind: errs.NotFound, text: "there is no such share"},
	403:  {kind: errs.Invalid, text: "the name or a setting of the share is invalid"},
	3300: {kind: errs.Internal, text: "the share could not be made: is what it is a copy of still there?"},
	3301: {kind: errs.Exists, text: "there is a share of that name"},
	3309: {kind: errs.NoSpace, text: "this model allows no more shares"},
	3328: {errs.Busy, "the share is busy", true},
}

// sanCodes are of LUNs and targets. 505, 710 and 004 are given for what is malformed and for what is
// absent alike, so they do not mean absent: lookups look at the list then.
var sanCodes = map[int]meaning{
	18990002:            {kind: errs.NoSpace, text: "there is no room in the volume"},
	18990004:            {kind: errs.Invalid, text: "a parameter is wrong, or there is no such object"},
	18990068:            {kind: errs.Invalid, text: "the name is too long (and the LUN may have been created)"},
	18990318:            {kind: errs.Invalid, text: "this type of LUN does not go with the file system of the volume"},
	18990327:            {kind: errs.Unavailable, text: "the room of the volume could not be found out"},
	18990500:            {kind: errs.Invalid, text: "type: there is no such type of LUN"},
	18990501:            {kind: errs.Invalid, text: "location: there is no such volume"},
	18990502:            {kind: errs.Invalid, text: "size: is not valid"},
	18990503:            {kind: errs.Invalid, text: "name: letters, digits, '.', ':' and '-' only, at most 200"},
	18990505:            {kind: errs.Invalid, text: "uuid: is malformed, or there is no such LUN"},
	18990508:            {kind: errs.Internal, text: "a parameter is missing"},
	18990513:            {kind: errs.Exists, text: "the LUN has a snapshot of that name"},
	18990531:            {kind: errs.NotFound, text: "there is no such LUN"},
	18990532:            {kind: errs.NotFound, text: "there is no such snapshot"},
	18990538:            {kind: errs.Exists, text: "there is a LUN of that name"},
	CodeNoMoreLUNs:      {kind: errs.NoSpace, text: "this model allows no more LUNs"},
	CodeNoMoreTargets:   {kind: errs.NoSpace, text: "this model allows no more targets"},
	CodeNoMoreSnapshots: {kind: errs.NoSpace, text: "this LUN can have no more snapshots"},
	18990570:            {kind: errs.Internal, text: "the LUN could not be mapped or loaded"},
	18990593:            {kind: errs.Internal, text: "the LUN cannot be imported"},
	18990619:            {kind: errs.Internal, text: "types: is not valid"},
	18990622:            {kind: errs.Internal, text: "dev_attribs: are not valid"},
	18990635:            {kind: errs.Internal, text: "direct_io_pattern: is not valid"},
	18990700:            {kind: errs.Invalid, text: "name: is not one of a target"},
	18990702:            {kind: errs.Invalid, text: "auth_type: is not valid"},
	18990708:            {kind: errs.Invalid, text: "CHAP: user or password is not valid"},
	18990710:            {kind: errs.Invalid, text: "target_id: is malformed, or there is no such target"},
	18990722:            {kind: errs.Internal, text: "the target could not be loaded"},
	18990724:            {kind: errs.Internal, text: "the target could not be loaded"},
	18990744:            {kind: errs.Exists, text: "there is a target of that name"},
	18990745:            {kind: errs.Exists, text: "there is a target of that IQN"},
}

// Obstacle is what a call failed at on its way to DSM, for who has to say what to do about it.
type Obstacle int

// Obstacles, in the order in which they are met.
const (
	NoObstacle  Obstacle = iota // DSM did the call, or refused it for what was asked
	Unreachable                 // nothing answers, or something that is not DSM
	Distrusted                  // the certificate
	Rejected                    // the login: CodeOf says why
	Forbidden                   // the account lacks the right
)

// ObstacleOf reads an error of a method of Client.
func ObstacleOf(err error) Obstacle {
	var r *Refusal
	switch {
	case errors.As(err, new(*distrust)):
		return Distrusted
	case errors.As(err, new(*lost)):
		return Unreachable
	case errors.As(err, &r) && r.API == authAPI:
		return Rejected
	case errors.As(err, &r) && r.Code == codeNoRight:
		return Forbidden
	}
	return NoObstacle
}

// Codes of refused logins that have remedies of their own.
const (
	CodeOTPNeeded  = codeOTPNeeded
	CodeOTPWrong   = 404
	CodeOTPNotSet  = 406
	CodeNotAllowed = 402
	CodeBlocked    = codeBlocked
)
