{{/* A rule of a network policy: (list "from" or "to", peers, ports). */}}
{{- define "retort.rule" -}}
- {{ index . 0 }}:
    {{- toYaml (index . 1) | nindent 4 }}
  ports:
    {{- range index . 2 }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
{{- end }}

{{/* The rule that permits name resolution: $. */}}
{{- define "retort.nameResolution" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - { port: 53, protocol: UDP }
    - { port: 53, protocol: TCP }
{{- end }}

{{/* The pods of a component as a peer: (list $ component). */}}
{{- define "retort.peer" -}}
podSelector:
  matchLabels:
    {{- include "retort.selector" . | nindent 4 }}
{{- end }}

{{/* A policy that permits one component to call a port of another one, beside the callee's own: (list $ caller callee port). */}}
{{- define "retort.callPolicy" -}}
{{- $root := index . 0 -}}
{{- $caller := index . 1 -}}
{{- $callee := index . 2 -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "retort.metadata" (list $root $caller (printf "%s-%s" $callee $caller)) | nindent 2 }}
spec:
  {{- include "retort.peer" (list $root $callee) | nindent 2 }}
  policyTypes: [Ingress]
  ingress:
    {{- include "retort.rule" (list "from" (list (include "retort.peer" (list $root $caller) | fromYaml)) (list (index . 3))) | nindent 4 }}
{{- end }}
