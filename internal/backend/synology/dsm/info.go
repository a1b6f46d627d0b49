package dsm

import (
	"context"
	"encoding/json"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// The APIs that are used.
const (
	infoAPI            = "SYNO.API.Info"
	authAPI            = "SYNO.API.Auth"
	systemAPI          = "SYNO.Core.System"
	interfaceAPI       = "SYNO.Core.Network.Interface"
	nodeAPI            = "SYNO.Core.ISCSI.Node"
	volumeAPI          = "SYNO.Core.Storage.Volume"
	lunAPI             = "SYNO.Core.ISCSI.LUN"
	targetAPI          = "SYNO.Core.ISCSI.Target"
	shareAPI           = "SYNO.Core.Share"
	shareSnapshotAPI   = "SYNO.Core.Share.Snapshot"
	sharePermissionAPI = "SYNO.Core.Share.Permission"
	nfsAPI             = "SYNO.Core.FileServ.NFS"
	nfsRulesAPI        = "SYNO.Core.FileServ.NFS.SharePrivilege"
	smbAPI             = "SYNO.Core.FileServ.SMB"
)

var usedAPIs = []string{authAPI, systemAPI, interfaceAPI, nodeAPI, volumeAPI, lunAPI, targetAPI,
	shareAPI, shareSnapshotAPI, sharePermissionAPI, nfsAPI, nfsRulesAPI, smbAPI}

// form is the body of a request.
type form = url.Values

// address puts into a form which method it is for.
func (what call) address(f form) {
	f.Set("api", what.api)
	f.Set("version", strconv.Itoa(what.version))
	f.Set("method", what.method)
}

// apiInfo is what a NAS says of one API.
type apiInfo struct {
	Path          string
	MinVersion    Number
	MaxVersion    Number
	RequestFormat string
}

type apis map[string]apiInfo

// plainPath is what the path of an API may look like: the NAS says it, and requests go there.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_/-]*\.cgi$`)

// info asks a NAS where its APIs are. That needs no session, so it also shows whether a NAS is there
// before a password is sent to it.
func (c *Client) info(ctx context.Context) (apis, error) {
	what := call{infoAPI, 1, "query"}
	a, err := c.send(ctx, "entry.cgi", nil, what, form{"query": {strings.Join(usedAPIs, ",")}})
	if err != nil {
		return nil, err
	}
	var entries map[string]json.RawMessage
	if err := decode(what, a, &entries); err != nil {
		return nil, err
	}
	found := apis{}
	for _, name := range usedAPIs {
		var info apiInfo
		if json.Unmarshal(entries[name], &info) == nil && plainPath.MatchString(info.Path) {
			found[name] = info
		}
	}
	return found, nil
}

// find returns where an API is. errs.Unsupported if this NAS does not have it in this version.
func (a apis) find(what call) (apiInfo, error) {
	info, ok := a[what.api]
	switch {
	case !ok:
		return info, errs.E(errs.Unsupported, "%s: this NAS does not have it: DSM 7 with SAN Manager is needed", what.api)
	case Number(what.version) < info.MinVersion || Number(what.version) > info.MaxVersion:
		return info, errs.E(errs.Unsupported, "%s: this NAS has versions %d to %d of it, and version %d is needed",
			what.api, info.MinVersion, info.MaxVersion, what.version)
	}
	return info, nil
}
