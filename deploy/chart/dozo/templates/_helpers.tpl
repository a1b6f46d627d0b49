{{/* Everything here that is one thing per cluster (driver, classes, cluster roles) has a fixed name: the
     driver's name is part of every volume, so there cannot be two releases. */}}

{{- define "dozo.image" -}}
{{- $registry := .root.Values.image.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Labels that choose an object's pods: dict component. */}}
{{- define "dozo.selector" -}}
app.kubernetes.io/name: dozo
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of an object: dict root, component. */}}
{{- define "dozo.labels" -}}
{{ include "dozo.selector" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* The kinds of storage to install drivers for, as JSON: those that are switched on, or have a pool. */}}
{{- define "dozo.kinds" -}}
{{- $kinds := list -}}
{{- range $kind, $driver := .Values.drivers -}}
{{- $used := false -}}
{{- range $.Values.pools }}{{ if eq .kind $kind }}{{ $used = true }}{{ end }}{{ end -}}
{{- if or (eq (toString $driver.enabled) "true") (and $used (eq (toString $driver.enabled) "auto")) -}}
{{- $kinds = append $kinds $kind -}}
{{- else if $used -}}
{{- fail (printf "drivers.%s.enabled: it is false, and there are pools of this kind" $kind) -}}
{{- end -}}
{{- end -}}
{{- if not $kinds -}}
{{- fail "drivers: none is enabled, and pools has none either: there is nothing to install" -}}
{{- end -}}
{{- toJson (sortAlpha $kinds) -}}
{{- end }}

{{/* "true" or "": whether the storage of a kind is outside the cluster: the controller opens its pools, and volumes are
     attached to nodes. */}}
{{- define "dozo.outside" -}}
{{- if eq . "synology" }}true{{ end -}}
{{- end }}

{{/* The ports of the pod on a node: dict root, kind. One in the host's network takes them there. */}}
{{- define "dozo.nodePorts" -}}
{{- if include "dozo.outside" .kind -}}
{{ toJson (index .root.Values.drivers .kind).hostPorts }}
{{- else -}}
{{ toJson (dict "health" 9808 "metrics" .root.Values.metrics.port) }}
{{- end -}}
{{- end }}

{{/* The Secrets that the controller of a kind may read, as JSON: dict root, kind. */}}
{{- define "dozo.secrets" -}}
{{- $names := default list (index .root.Values.drivers .kind).secrets -}}
{{- range $pool := .root.Values.pools }}{{ if and (eq $pool.kind $.kind) $pool.secret }}{{ $names = append $names $pool.secret }}{{ end }}{{ end -}}
{{- toJson ($names | uniq | sortAlpha) -}}
{{- end }}

{{/* "true" or "": whether snapshots are installed. */}}
{{- define "dozo.snapshots" -}}
{{- if eq (toString .Values.snapshots.enabled) "auto" -}}
{{- if .Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1/VolumeSnapshotClass" }}true{{ end -}}
{{- else if eq (toString .Values.snapshots.enabled) "true" }}true{{ end -}}
{{- end }}

{{/* None of root's powers. The driver's socket has mode 0600, so whoever talks to it is the same user. */}}
{{- define "dozo.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A pod that serves the whole cluster and needs nothing of its node, up to its containers: dict root, account
     (its ServiceAccount), component, alone: "" if there may be several. */}}
{{- define "dozo.controllerPod" -}}
{{- $values := .root.Values.controller -}}
metadata:
  labels: {{- include "dozo.labels" . | nindent 4 }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    kubectl.kubernetes.io/default-container: dozo
    {{- with $values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ .account }}
  automountServiceAccountToken: false
  priorityClassName: {{ $values.priorityClassName }}
  terminationGracePeriodSeconds: 30
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  {{- include "dozo.pullSecrets" .root | nindent 2 }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if or .alone $values.tolerations }}
  tolerations:
  {{- with $values.tolerations }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- if .alone }}
  # There is no other one that could go on in place of one whose node is lost.
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
  {{- end }}
  {{- end }}
  affinity:
    {{- if $values.affinity }}
    {{- toYaml $values.affinity | nindent 4 }}
    {{- else }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "dozo.selector" . | nindent 14 }}
    {{- end }}
{{- end }}

{{/* A container that serves HTTP and uses the API, up to its probe: dict root, resources, args, port. */}}
{{- define "dozo.server" -}}
name: dozo
image: {{ include "dozo.image" (dict "root" .root "image" .root.Values.image) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
{{- range .args }}
- {{ . }}
{{- end }}
- --log-format={{ .root.Values.log.format }}
{{- if .root.Values.metrics.port }}
- --metrics-address=:{{ .root.Values.metrics.port }}
{{- end }}
ports:
- {name: http, containerPort: {{ .port }}}
{{- if .root.Values.metrics.port }}
- {name: metrics, containerPort: {{ .root.Values.metrics.port }}}
{{- end }}
resources: {{ toJson .resources }}
securityContext: {{- include "dozo.unprivileged" . | nindent 2 }}
{{- end }}

{{/* What who looks for a pod's volumes reads: its claims, their classes, and where the source of a copy is. */}}
{{- define "dozo.claimRules" -}}
- {apiGroups: [""], resources: [persistentvolumeclaims], verbs: [get, list, watch]}
- {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [persistentvolumes], verbs: [get]}
- {apiGroups: [snapshot.storage.k8s.io], resources: [volumesnapshots, volumesnapshotcontents], verbs: [get]}
- {apiGroups: [dozo.dev], resources: [nodesnapshots], verbs: [get]}
{{- end }}

{{/* A sidecar, up to its arguments: dict root, name (of the container), sidecar (a key of values.sidecars). */}}
{{- define "dozo.sidecar" -}}
{{- $values := index .root.Values.sidecars .sidecar -}}
name: {{ .name }}
image: {{ include "dozo.image" (dict "root" .root "image" $values) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
resources: {{ toJson $values.resources }}
securityContext: {{- include "dozo.unprivileged" . | nindent 2 }}
{{- end }}

{{- define "dozo.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The credentials of the pod's service account, mounted only by the containers that use the API. */}}
{{- define "dozo.tokenMount" -}}
{name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{- define "dozo.tokenVolume" -}}
name: api-token
projected:
  sources:
  - serviceAccountToken: {path: token, expirationSeconds: 3607}
  - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
  - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{/* Of a sidecar's replicas one is at work. */}}
{{- define "dozo.election" -}}
- --leader-election
- --leader-election-namespace=$(NAMESPACE)
{{- end }}

{{/* What a kind needs of the node besides: dict root, kind. Names and paths of the two go together. */}}
{{- define "dozo.kindVolumes" -}}
{{- if eq .kind "loopfile" }}
{{- range $n, $dir := .root.Values.drivers.loopfile.directories }}
- {name: pools-{{ $n }}, hostPath: {path: {{ $dir }}, type: DirectoryOrCreate}}
{{- end }}
# The directories of pools are made, unless a disk is to be mounted there.
{{- range $name, $pool := .root.Values.pools }}
{{- if and (eq $pool.kind "loopfile") (ne (toString $pool.options.requireMount) "true") }}
- {name: pool-{{ $name }}, hostPath: {path: {{ $pool.options.path }}, type: DirectoryOrCreate}}
{{- end }}
{{- end }}
{{- else if and (eq .kind "lvm") .root.Values.drivers.lvm.lvmd.socket }}
# Of the socket, which is another one after each start of lvmd. LVM itself is the daemon's.
- {name: lvmd, hostPath: {path: {{ dir .root.Values.drivers.lvm.lvmd.socket }}, type: DirectoryOrCreate}}
{{- else if eq .kind "lvm" }}
# The locks that LVM's own commands on the node take.
- {name: lvm-locks, hostPath: {path: /run/lock/lvm, type: DirectoryOrCreate}}
- {name: lvm-run, hostPath: {path: /run/lvm, type: DirectoryOrCreate}}
# What the node says of its devices: lvm.conf and the devices file. LVM keeps its backups there too.
- {name: lvm-config, hostPath: {path: /etc/lvm, type: DirectoryOrCreate}}
# LVM loads the modules of the device mapper that it needs.
- {name: modules, hostPath: {path: /lib/modules, type: Directory}}
{{- else if eq .kind "synology" }}
{{- if eq .root.Values.drivers.synology.initiator "node" }}
# iscsiadm and multipathd are run in it, as the node has them.
- {name: node-root, hostPath: {path: /, type: Directory}}
# Where open-iscsi keeps its records on Fedora and what came of it.
- {name: iscsi-data, hostPath: {path: /var/lib/iscsi, type: DirectoryOrCreate}}
{{- end }}
# Where open-iscsi keeps what it knows of targets, for the iscsid on the node too, which ends and mends sessions.
- {name: iscsi-config, hostPath: {path: /etc/iscsi, type: DirectoryOrCreate}}
# The locks that the node's own iscsiadm takes.
- {name: iscsi-locks, hostPath: {path: /run/lock/iscsi, type: DirectoryOrCreate}}
{{- end }}
{{- end }}

{{- define "dozo.kindMounts" -}}
{{- if eq .kind "loopfile" }}
{{- range $n, $dir := .root.Values.drivers.loopfile.directories }}
# A disk that is mounted below it later is seen.
- {name: pools-{{ $n }}, mountPath: {{ $dir }}, mountPropagation: HostToContainer}
{{- end }}
{{- range $name, $pool := .root.Values.pools }}
{{- if and (eq $pool.kind "loopfile") (ne (toString $pool.options.requireMount) "true") }}
- {name: pool-{{ $name }}, mountPath: {{ $pool.options.path }}, mountPropagation: HostToContainer}
{{- end }}
{{- end }}
{{- else if and (eq .kind "lvm") .root.Values.drivers.lvm.lvmd.socket }}
- {name: lvmd, mountPath: {{ dir .root.Values.drivers.lvm.lvmd.socket }}, readOnly: true}
{{- else if eq .kind "lvm" }}
- {name: lvm-locks, mountPath: /run/lock/lvm}
- {name: lvm-run, mountPath: /run/lvm}
- {name: lvm-config, mountPath: /etc/lvm}
- {name: modules, mountPath: /lib/modules, readOnly: true}
{{- else if eq .kind "synology" }}
{{- $node := "" }}
{{- if eq .root.Values.drivers.synology.initiator "node" }}
{{- $node = "/node" }}
- {name: node-root, mountPath: {{ $node }}, readOnly: true, mountPropagation: HostToContainer}
- {name: iscsi-data, mountPath: {{ $node }}/var/lib/iscsi}
{{- end }}
- {name: iscsi-config, mountPath: {{ $node }}/etc/iscsi}
- {name: iscsi-locks, mountPath: {{ $node }}/run/lock/iscsi}
{{- end }}
{{- end }}
