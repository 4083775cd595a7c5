{{/* What all pods have in common, for the Pod Security Standard "restricted": (list $ component values). */}}
{{- define "retort.pod" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index . 2 -}}
serviceAccountName: {{ include "retort.fullname" $root }}
automountServiceAccountToken: false
# Variables of Services would begin with RETORT_TEACHER_, like settings.
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := $values.tolerations }}
{{- if gt (int $values.gpus) 0 }}
{{- $tolerations = prepend $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* Workers that train together are best near each other. */}}
{{- if not (has $component (list "trainer" "training")) }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "retort.selector" (list $root $component) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Image, limits and security of a container: (list $ component values). */}}
{{- define "retort.container" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
{{- $gpus := int $values.gpus -}}
image: {{ $values.image | default (include "retort.image" (list $root (index . 1) $gpus)) }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- $resources := deepCopy $values.resources }}
{{- if gt $gpus 0 }}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" (toString $gpus)) $resources.limits) }}
{{- end }}
resources:
  {{- toYaml $resources | nindent 2 }}
{{- include "retort.containerSecurity" . | nindent 0 }}
{{- end }}

{{- define "retort.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* Addresses of the ports, and what callers must show: (list $ PREFIX (list (list SECTION port) …)). */}}
{{- define "retort.ports.env" -}}
{{- $access := (index . 0).Values.access -}}
{{- $prefix := index . 1 -}}
{{- if $access.tokensSecret -}}
- name: {{ $prefix }}__AUTH__TOKENS_FILE
  value: /etc/retort/tokens/tokens.toml
{{- else -}}
# Without tokens, the network policies alone decide who calls.
{{- end }}
{{- range index . 2 }}
{{- $section := index . 0 }}
- name: {{ $prefix }}__{{ $section }}__LISTEN
  value: 0.0.0.0:{{ index . 1 }}
{{- if not $access.tokensSecret }}
- name: {{ $prefix }}__{{ $section }}__ACCESS
  value: anyone_who_reaches_the_port
{{- end }}
{{- end }}
{{- if $access.tlsSecret }}
- name: {{ $prefix }}__GRPC__TLS__CERTIFICATE
  value: /etc/retort/tls/tls.crt
- name: {{ $prefix }}__GRPC__TLS__KEY
  value: /etc/retort/tls/tls.key
# For the probes.
- name: RETORT_CA
  value: /etc/retort/tls/ca.crt
{{- end }}
{{- end }}

{{/* Mounts of tokens, certificates and the folder for temporary files: $. */}}
{{- define "retort.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if .Values.access.tokensSecret }}
- { name: tokens, mountPath: /etc/retort/tokens, readOnly: true }
{{- end }}
{{- if .Values.access.tlsSecret }}
- { name: tls, mountPath: /etc/retort/tls, readOnly: true }
{{- end }}
{{- end }}

{{- define "retort.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 64Mi }
{{- with .Values.access.tokensSecret }}
- name: tokens
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- with .Values.access.tlsSecret }}
- name: tls
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{/* Variables that name a bucket: values with region and endpoint. */}}
{{- define "retort.bucket.env" -}}
{{- with .region -}}
- name: AWS_REGION
  value: {{ . | quote }}
{{ end }}
{{- with .endpoint -}}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{ end }}
{{- end }}

{{/* The spec of a claim, from size, storageClass and accessMode. */}}
{{- define "retort.claim" -}}
spec:
  accessModes: [{{ .accessMode }}]
  {{- with .storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests: { storage: {{ .size }} }
{{- end }}

{{/* The source of a volume that is only read, from `claim` or `volume`. */}}
{{- define "retort.readOnly" -}}
{{- if .volume -}}
{{ toYaml .volume }}
{{- else -}}
persistentVolumeClaim: { claimName: {{ required "a claim or a volume is required" .claim }}, readOnly: true }
{{- end }}
{{- end }}

{{/* Startup, liveness and readiness of a service that has gRPC only: (list $ program). */}}
{{- define "retort.probes" -}}
{{- $check := include "retort.grpcCheck" . -}}
# A large model may take minutes to load.
startupProbe:
  {{- $check | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 150
livenessProbe:
  {{- $check | nindent 2 }}
  periodSeconds: 20
  failureThreshold: 6
readinessProbe:
  {{- $check | nindent 2 }}
  periodSeconds: 10
  failureThreshold: 2
{{- end }}

{{- define "retort.grpcCheck" -}}
{{- $port := index . 2 -}}
{{- if (index . 0).Values.access.tlsSecret -}}
# Kubernetes' gRPC probes cannot use TLS.
exec: { command: [/usr/local/bin/{{ index . 1 }}, healthcheck, "localhost:{{ $port }}"] }
{{- else -}}
grpc: { port: {{ $port }} }
{{- end }}
timeoutSeconds: 5
{{- end }}
