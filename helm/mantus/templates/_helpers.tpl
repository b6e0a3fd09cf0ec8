{{/* Labels that never change: (dict "root" $ "component" "storage") */}}
{{- define "mantus.selector" -}}
app.kubernetes.io/name: mantus
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: mantus
{{- end }}

{{/* Labels of an object: (dict "root" $ "component" "storage") */}}
{{- define "mantus.labels" -}}
{{ include "mantus.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Values.managedBy | default .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name, namespace and labels: (dict "root" $ "component" "storage" "name" "mantus-storage") */}}
{{- define "mantus.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "mantus.labels" . | nindent 2 }}
{{- end }}

{{/* Whether the cluster has an API: (dict "root" $ "api" "group/version") */}}
{{- define "mantus.has" -}}
{{- if or (.root.Capabilities.APIVersions.Has .api) (has .api .root.Values.assumeApis) }}yes{{ end }}
{{- end }}

{{/* Full name of an image: (dict "root" $ "image" .Values.images.python) */}}
{{- define "mantus.image" -}}
{{- $registry := .image.registry | default .root.Values.images.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The secret with S3 credentials */}}
{{- define "mantus.secret" -}}
{{ .Values.s3.existingSecret | default "mantus-s3" }}
{{- end }}

{{/* Endpoint of the store; nothing: AWS */}}
{{- define "mantus.endpoint" -}}
{{- if .Values.s3.endpoint }}{{ trimSuffix "/" .Values.s3.endpoint }}
{{- else if .Values.storage.enabled }}http://mantus-storage.{{ .Release.Namespace }}.svc:8333{{ end }}
{{- end }}

{{/* Image of the jobs */}}
{{- define "mantus.jobImage" -}}
{{- $image := ternary .Values.images.cuda .Values.images.python (gt (int .Values.cluster.gpus) 0) }}
{{- .Values.cluster.image | default (include "mantus.image" (dict "root" . "image" $image)) }}
{{- end }}

{{/* A pod's security context under Pod Security "restricted" */}}
{{- define "mantus.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.securityContext.runAsUser }}
runAsUser: {{ int64 . }}
{{- end }}
{{- with .Values.securityContext.fsGroup }}
fsGroup: {{ int64 . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* A container's: complete, for pods that others make (KServe copies it to its initializer) */}}
{{- define "mantus.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- with .Values.securityContext.runAsUser }}
runAsUser: {{ int64 . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* imagePullSecrets of a pod or of a service account */}}
{{- define "mantus.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where a pod may go: nodeSelector, tolerations, affinity of one section of the values */}}
{{- define "mantus.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Peers of a network policy: the monitoring namespaces */}}
{{- define "mantus.monitoringPeers" }}
{{- range . }}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ . }}}
{{- end }}
{{- end }}
