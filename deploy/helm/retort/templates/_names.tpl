{{- define "retort.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels by which Services, policies and controllers select pods: (list $ component). They never change. */}}
{{- define "retort.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: retort
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels of an object: (list $ component). */}}
{{- define "retort.labels" -}}
{{- $root := index . 0 -}}
{{ include "retort.selector" . }}
app.kubernetes.io/part-of: retort
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* Name, namespace and labels of an object: (list $ component name). */}}
{{- define "retort.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "retort.fullname" $root }}-{{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "retort.labels" . | nindent 2 }}
{{- end }}

{{/* An image: (list $ component gpus). */}}
{{- define "retort.image" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}retort-{{ index . 1 }}:
{{- $root.Values.image.tag | default $root.Chart.AppVersion }}{{ if gt (int (index . 2)) 0 }}-cuda{{ end }}
{{- end }}
