{{/* Everything here that is one thing per cluster (driver, classes, cluster roles) has a fixed name: the
     driver's name is part of every volume, so there cannot be two releases. */}}

{{- define "dozo.image" -}}
{{- $registry := .root.Values.image.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Selects the pods of a component: node or controller. */}}
{{- define "dozo.selector" -}}
app.kubernetes.io/name: dozo
app.kubernetes.io/component: loopfile-{{ . }}
{{- end }}

{{/* The labels of all but the two workloads, which have their component besides. */}}
{{- define "dozo.labels" -}}
app.kubernetes.io/name: dozo
{{ include "dozo.release" . }}
{{- end }}

{{- define "dozo.release" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* "true" or "": whether snapshots are installed. */}}
{{- define "dozo.snapshots" -}}
{{- if eq (toString .Values.snapshots.enabled) "auto" -}}
{{- if .Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1/VolumeSnapshotClass" }}true{{ end -}}
{{- else if eq (toString .Values.snapshots.enabled) "true" }}true{{ end -}}
{{- end }}

{{/* The sidecars run as root and have none of root's powers: the driver's socket has mode 0600 and is
     root's, so that nobody else on the node can talk to it. */}}
{{- define "dozo.sidecarSecurity" -}}
securityContext:
  runAsUser: 0
  runAsGroup: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A sidecar, up to its arguments: dict root, name (of the container), sidecar (a key of values.sidecars). */}}
{{- define "dozo.sidecar" -}}
{{- $values := index .root.Values.sidecars .sidecar -}}
name: {{ .name }}
image: {{ include "dozo.image" (dict "root" .root "image" $values) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
resources: {{ toJson $values.resources }}
{{ include "dozo.sidecarSecurity" . }}
{{- end }}

{{/* The credentials of the pod's service account, mounted by the containers that use the API and by nobody
     else. */}}
{{- define "dozo.tokenMount" -}}
{name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{/* The directories to mount for the pools, as JSON: directory -> name of the first pool there, hostPath type.
     With requireMount it is the parent: a directory that is mounted into a pod is always a mount point
     there, whether a disk is mounted on the node or not. */}}
{{- define "dozo.poolDirs" -}}
{{- $dirs := dict -}}
{{- range $name, $pool := .Values.pools -}}
{{- $dir := $pool.options.path -}}
{{- $type := "DirectoryOrCreate" -}}
{{- if eq (toString $pool.options.requireMount) "true" -}}
{{- $dir = dir $pool.options.path -}}
{{- $type = "Directory" -}}
{{- if eq $dir "/" -}}
{{- fail (printf "pools.%s.options.path: with requireMount, %s has to be at least one directory deeper, such as /srv%s" $name $pool.options.path $pool.options.path) -}}
{{- end -}}
{{- end -}}
{{- if not (hasKey $dirs $dir) -}}
{{- $_ := set $dirs $dir (dict "pool" $name "type" $type) -}}
{{- end -}}
{{- end -}}
{{- toJson $dirs -}}
{{- end }}

{{/* The volume that they are in. */}}
{{- define "dozo.tokenVolume" -}}
name: api-token
projected:
  sources:
  - serviceAccountToken: {path: token, expirationSeconds: 3607}
  - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
  - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{/* What all pods have: where they may run and who they are. */}}
{{- define "dozo.podSpec" -}}
automountServiceAccountToken: false
securityContext:
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with .pods.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pods.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .pods.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The probes of a driver through its livenessprobe sidecar. */}}
{{- define "dozo.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: healthz}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: healthz}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 5
{{- end }}
