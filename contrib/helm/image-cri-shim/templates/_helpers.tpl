{{- define "shim.labels" -}}
app.kubernetes.io/name: image-cri-shim
app.kubernetes.io/version: {{ include "shim.tag" . | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." | quote }}
{{- end }}

{{- define "shim.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "shim.image" -}}
{{ .Values.image.repository }}:{{ include "shim.tag" . }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The node's file. Where the cluster has a part in it, the file says so. */}}
{{- define "shim.config" -}}
{{- $config := deepCopy (.Values.config | default dict) }}
{{- if include "shim.hasPart" . }}
{{- $part := dict "enabled" true "namespace" .Release.Namespace }}
{{- range $key, $value := $config.kubernetes }}
{{- $_ := set $part $key $value }}
{{- end }}
{{- $_ := set $config "kubernetes" $part }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "shim.hasPart" -}}
{{- if or .Values.registries .Values.registriesSecret }}true{{ end }}
{{- end }}

{{/*
Names what is to be on the nodes: what switches a node is in it, and how fast is not. Everybody may read
it, on each node, and the file has a password: it goes through scrypt, which makes guessing slow.
*/}}
{{- define "shim.revision" -}}
{{- $config := derivePassword 1 "maximum" (include "shim.config" .) "image-cri-shim" "revision" }}
{{- $what := dict "image" (include "shim.image" .) "config" $config "mode" .Values.mode "runtime" .Values.wireRuntime "kubelet" .Values.wireKubelet "retry" (toString .Values.retry) }}
{{- toJson $what | sha256sum | trunc 12 }}
{{- end }}

{{/* The same nodes as a label selector. */}}
{{- define "shim.selector" -}}
{{- $terms := list }}
{{- range $name, $value := .Values.nodeSelector }}
{{- $terms = append $terms (printf "%s=%s" $name $value) }}
{{- end }}
{{- join "," $terms }}
{{- end }}

{{- define "shim.environment" -}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- with (.Values.apiServer | default dict).host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{- define "shim.placement" -}}
hostNetwork: {{ .Values.hostNetwork }}
priorityClassName: {{ .Values.priorityClassName | quote }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
