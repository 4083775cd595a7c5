{{/* A rule of a network policy: (list "from" or "to", peers, ports). */}}
{{- define "retort.rule" -}}
- {{ index . 0 }}:
    {{- toYaml (index . 1) | nindent 4 }}
  ports:
    {{- range index . 2 }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
{{- end }}
