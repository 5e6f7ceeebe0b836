{{- define "lstm-explain.name" -}}
{{- if contains "lstm-explain" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-lstm-explain" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "lstm-explain.selector" -}}
app.kubernetes.io/name: lstm-explain
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lstm-explain.labels" -}}
{{ include "lstm-explain.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- define "lstm-explain.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "lstm-explain.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "lstm-explain.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* The environment of the server: the chart's own settings, then those of the values. */}}
{{- define "lstm-explain.settings" -}}
{{- $all := dict
  "LISTEN" "0.0.0.0:50051"
  "METRICS_LISTEN" "0.0.0.0:9090"
  "MODELS" "/models"
  "PARALLEL" "2"
  "POLL_SECONDS" "30"
  "DRAIN_DELAY" "5"
  "GRACE_PERIOD" "20"
  "MAX_CONNECTION_AGE" "600"
  "LOG_FORMAT" "json"
-}}
{{- if .Values.tls.secretName }}
{{- $_ := set $all "TLS_CERT" "/tls/tls.crt" }}
{{- $_ := set $all "TLS_KEY" "/tls/tls.key" }}
{{- else }}
{{- $_ := set $all "INSECURE_LISTEN" "true" }}
{{- end }}
{{- if .Values.tokens.secretName }}{{ $_ := set $all "TOKENS" "/tokens/tokens" }}{{ end }}
{{- if ne .Values.provenance.modelSignatures "off" }}
{{- $_ := set $all "MODEL_SIGNATURES" .Values.provenance.modelSignatures }}
{{- $_ := set $all "MODEL_SIGNERS" "/signers" }}
{{- end }}
{{- if .Values.provenance.receiptKeySecretName }}{{ $_ := set $all "RECEIPT_KEY" "/receipts/receipt.key" }}{{ end }}
{{- if .Values.operations.existingClaim }}{{ $_ := set $all "OPERATIONS_FOLDER" "/operations" }}{{ end }}
{{- if .Values.traces.enabled }}{{ $_ := set $all "TRACES" "true" }}{{ end }}
{{- range $name, $value := .Values.settings }}
{{- /* Numbers of values.yaml are floats, which would be written as 6.7e+07. */}}
{{- $whole := and (kindIs "float64" $value) (eq (toString (floor $value)) (toString $value)) }}
{{- $text := toString $value }}
{{- if $whole }}{{ $text = printf "%.0f" $value }}{{ end }}
{{- $_ := set $all (upper ($name | replace "-" "_")) $text }}
{{- end }}
{{- range $name, $value := $all }}
LSTM_EXPLAIN_{{ $name }}: {{ $value | quote }}
{{- end }}
{{- if .Values.traces.enabled }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .Values.traces.endpoint | quote }}
{{- end }}
{{- end }}

{{/* The volumes from Secrets: name, Secret, and folder in the container. */}}
{{- define "lstm-explain.secrets" -}}
{{- range $name, $secret := dict
  "tls" .Values.tls.secretName
  "tokens" .Values.tokens.secretName
  "signers" (eq .Values.provenance.modelSignatures "off" | ternary "" .Values.provenance.signersSecretName)
  "receipts" .Values.provenance.receiptKeySecretName }}
{{- if $secret }}
- {name: {{ $name }}, secret: {{ $secret }}}
{{- end }}
{{- end }}
{{- end }}

{{/* A probe: the kubelet's own speaks no TLS, so a command asks then. */}}
{{- define "lstm-explain.probe" -}}
{{- if .tls }}
exec:
  command: ["lstm-explain", "health", "--address", "localhost:50051", "--ca", "/tls/ca.crt"{{ if .service }}, "--service", {{ .service | quote }}{{ end }}]
{{- else }}
grpc:
  port: 50051
  {{- if .service }}
  service: {{ .service }}
  {{- end }}
{{- end }}
{{- end }}
