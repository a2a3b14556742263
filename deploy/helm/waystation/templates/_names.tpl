{{/* Name of a part: <release>-<part>, or the part alone in a release that is called waystation. */}}
{{- define "waystation.name" -}}
{{- $release := .root.Release.Name -}}
{{- if contains "waystation" $release }}{{ printf "%s-%s" $release .part | trunc 63 }}{{ else }}{{ printf "%s-waystation-%s" $release .part | trunc 63 }}{{ end -}}
{{- end }}

{{/* The parts that this release has, as a list. */}}
{{- define "waystation.services" -}}
{{- $services := list "gateway" "router" "auth" }}
{{- if .Values.federation.enabled }}{{ $services = append $services "federation" }}{{ end }}
{{- toJson $services }}
{{- end }}

{{/* What pods of a part are found by; never changes. */}}
{{- define "waystation.selector" -}}
app.kubernetes.io/name: waystation
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "waystation.labels" -}}
{{ include "waystation.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "waystation.secret" -}}
{{- if .Values.secrets.existing }}{{ .Values.secrets.existing }}{{ else }}{{ include "waystation.name" (dict "root" . "part" "secrets") }}{{ end -}}
{{- end }}

{{- define "waystation.tlsSecret" -}}
{{- if .root.Values.tls.certManager.enabled }}{{ include "waystation.name" (dict "root" .root "part" (printf "tls-%s" .part)) }}{{ else }}{{ .root.Values.tls.secretPrefix }}-{{ .part }}{{ end -}}
{{- end }}

{{- define "waystation.ports" -}}
{{- dict "gateway" (dict "grpc" 8781 "admin" 9780) "router" (dict "grpc" 8782 "admin" 9782) "auth" (dict "grpc" 8783 "admin" 9783) "federation" (dict "grpc" 8784 "admin" 9784) | toJson }}
{{- end }}

{{/* Where a part is called: every replica of it, by a headless service. */}}
{{- define "waystation.address" -}}
{{- $port := (get (include "waystation.ports" .root | fromJson) .part).grpc | int -}}
{{ if .root.Values.tls.enabled }}https{{ else }}http{{ end }}://{{ include "waystation.name" . }}:{{ $port }}
{{- end }}

{{- define "waystation.redisUrls" -}}
{{- $urls := .Values.redis.urls }}
{{- if .Values.redis.trial.enabled }}{{ $urls = list (printf "redis://%s:6379" (include "waystation.name" (dict "root" . "part" "redis"))) }}{{ end }}
{{- toJson $urls }}
{{- end }}
