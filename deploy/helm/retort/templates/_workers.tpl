{{/* What the workers of Jobs have in common; their programs come from the trainer's image. */}}

{{/* Variables of a worker, from its bucket and its values: (list bucket values). */}}
{{- define "retort.worker.env" -}}
{{- $bucket := index . 0 -}}
{{- $env := concat (include "retort.bucket.env" $bucket | fromYamlArray) (index . 1).env -}}
{{- with $env -}}
env:
  {{- toYaml . | nindent 2 }}
{{ end }}
{{- if and $bucket.url $bucket.credentialsSecret -}}
envFrom:
  - secretRef: { name: {{ $bucket.credentialsSecret }} }
{{- end }}
{{- end }}

{{/* Mounts of data sets, credentials and the folder for temporary files: $. */}}
{{- define "retort.worker.mounts" -}}
- { name: data, mountPath: /data, readOnly: true }
{{- if .Values.trainer.credentialsSecret }}
- { name: credentials, mountPath: /etc/retort/credentials, readOnly: true }
{{- end }}
- { name: tmp, mountPath: /tmp }
{{- end }}

{{/* The volumes of these mounts: (list $ limit of the folder for temporary files). */}}
{{- define "retort.worker.volumes" -}}
{{- $trainer := (index . 0).Values.trainer -}}
- name: data
  {{- include "retort.readOnly" $trainer.data | nindent 2 }}
{{- with $trainer.credentialsSecret }}
- name: credentials
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
- name: tmp
  emptyDir: { sizeLimit: {{ index . 1 }} }
{{- end }}

{{/* The values of workers, with the trainer's image if they name none: (list $ values). */}}
{{- define "retort.worker.values" -}}
{{- $values := deepCopy (index . 1) -}}
{{- $_ := set $values "image" ($values.image | default (index . 0).Values.trainer.image) -}}
{{- toYaml $values }}
{{- end }}
