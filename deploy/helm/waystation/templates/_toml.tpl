{{/* A value as TOML writes it on one line. Numbers of YAML are floats here, and TOML tells them from integers. */}}
{{- define "waystation.toml.value" -}}
{{- if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ $key }} = {{ include "waystation.toml.value" (get $ $key) }}{{ end -}} }
{{- else if kindIs "slice" . -}}
[{{- range $index, $value := . }}{{ if $index }}, {{ end }}{{ include "waystation.toml.value" $value }}{{ end -}}]
{{- else if kindIs "string" . -}}
{{ toJson . }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if eq (float64 .) (float64 (int64 .)) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* A table: what stands on one line first, then its tables. */}}
{{- define "waystation.toml" -}}
{{- range $key := keys . | sortAlpha }}
{{- $value := get $ $key }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ include "waystation.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $table := keys . | sortAlpha }}
{{- $content := get $ $table }}
{{- if kindIs "map" $content }}

[{{ $table }}]
{{- range $key := keys $content | sortAlpha }}
{{ $key }} = {{ include "waystation.toml.value" (get $content $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
