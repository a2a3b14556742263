{{/* What the schema cannot say. Each sentence names the value. */}}
{{- define "waystation.checks" -}}
{{- if and (not .Values.secrets.existing) (not .Values.secrets.create) }}
{{- fail "secrets.existing: name a Secret with the keys gateway, router, federation, pepper and bootstrap; or set secrets.create for a trial" }}
{{- end }}
{{- if and .Values.secrets.existing .Values.secrets.create }}
{{- fail "secrets.create: secrets.existing names a Secret already" }}
{{- end }}
{{- if and .Values.secrets.jwt (not .Values.secrets.existing) }}
{{- fail "secrets.jwt: the older platform's secret cannot be made up; put it into the Secret that secrets.existing names" }}
{{- end }}
{{- if and (not .Values.redis.urls) (not .Values.redis.trial.enabled) }}
{{- fail "redis.urls: say where the Redis is; or set redis.trial.enabled for a trial" }}
{{- end }}
{{- if and .Values.redis.urls .Values.redis.trial.enabled }}
{{- fail "redis.trial.enabled: redis.urls names a Redis already" }}
{{- end }}
{{- if and .Values.redis.trial.enabled .Values.redis.passwords }}
{{- fail "redis.passwords: the Redis for trials has none" }}
{{- end }}
{{- range .Values.redis.urls }}
{{- if contains "@" . }}
{{- fail (printf "redis.urls: %s has a password in it, which everybody could read who sees the configuration; name a Secret in redis.passwords" (regexReplaceAll "//.*@" . "//…@")) }}
{{- end }}
{{- if and (hasPrefix "rediss://" .) (not $.Values.redis.tls) }}
{{- fail "redis.tls: rediss:// needs a Secret with ca.crt" }}
{{- end }}
{{- end }}
{{- if and .Values.redis.clientCertificate (not .Values.redis.tls) }}
{{- fail "redis.clientCertificate: redis.tls must name the Secret that has it" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.enabled) }}
{{- fail "tls.certManager.enabled: tls.enabled is false, so nobody would use the certificates" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuer.name) }}
{{- fail "tls.certManager.issuer.name: name the issuer" }}
{{- end }}
{{- if ge (int .Values.gateway.drainSeconds) (int .Values.stopGraceSeconds) }}
{{- fail (printf "gateway.drainSeconds: %d s would be cut off by stopGraceSeconds, %d s" (int .Values.gateway.drainSeconds) (int .Values.stopGraceSeconds)) }}
{{- end }}
{{- range $part := list "gateway" "router" "auth" "federation" }}
{{- $scaling := (get $.Values $part).autoscaling }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
{{- fail (printf "%s.autoscaling.minReplicas: more than maxReplicas" $part) }}
{{- end }}
{{- end }}
{{- if and .Values.federation.cells.enabled (not .Values.federation.cells.secret) }}
{{- fail "federation.cells.secret: cells speak to each other by TLS only; name the Secret with our certificate" }}
{{- end }}
{{- if and .Values.federation.cells.enabled (not (dig "cells" "name" "" .Values.federation.config)) }}
{{- fail "federation.config.cells.name: say what this cell is called among the others" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: name the Gateway that the route belongs to" }}
{{- end }}
{{- end }}
