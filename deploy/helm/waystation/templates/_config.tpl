{{/* What the chart knows of a service's configuration. The values' own `config` is laid over it. */}}
{{- define "waystation.config" -}}
{{- $root := .root }}
{{- $part := .part }}
{{- $port := get (include "waystation.ports" $root | fromJson) $part }}
{{- $any := $root.Values.ipv6 | ternary "[::]" "0.0.0.0" }}
{{- $config := dict "grpc" (printf "%s:%d" $any (int $port.grpc)) "admin" (printf "%s:%d" $any (int $port.admin)) }}
{{- $process := dict "stop_grace_seconds" $root.Values.stopGraceSeconds }}
{{- with $root.Values.traces }}
{{- if .endpoint }}
{{- $_ := set $process "traces" (dict "endpoint" .endpoint "ratio" .ratio "callers_ratio" .callersRatio) }}
{{- end }}
{{- end }}
{{- $_ := set $config "process" $process }}
{{- if ne $part "auth" }}
{{- $_ := set $config "secret_file" (printf "/run/secrets/waystation/%s" $part) }}
{{- $_ := set $config "auth" (list (include "waystation.address" (dict "root" $root "part" "auth"))) }}
{{- else }}
{{- range $secret := list "gateway" "router" }}
{{- $_ := set $config (printf "%s_secret_file" $secret) (printf "/run/secrets/waystation/%s" $secret) }}
{{- end }}
{{- if $root.Values.federation.enabled }}
{{- $_ := set $config "federation_secret_file" "/run/secrets/waystation/federation" }}
{{- end }}
{{- $_ := set $config "pepper_file" "/run/secrets/waystation/pepper" }}
{{- $_ := set $config "bootstrap_token_file" "/run/secrets/waystation/bootstrap" }}
{{- end }}
{{- if has $part (list "gateway" "federation") }}
{{- $_ := set $config "routers" (list (include "waystation.address" (dict "root" $root "part" "router"))) }}
{{- end }}
{{- if eq $part "gateway" }}
{{- $_ := set $config "public" (printf "%s:8780" $any) }}
{{- $_ := set $config "limits" (dict "drain_spread_seconds" $root.Values.gateway.drainSeconds) }}
{{- if $root.Values.federation.enabled }}
{{- $_ := set $config "federation" (list (include "waystation.address" (dict "root" $root "part" "federation"))) }}
{{- end }}
{{- if $root.Values.gateway.publicTls }}
{{- $_ := set $config "public_tls" (dict "certificate_file" "/run/public-tls/tls.crt" "key_file" "/run/public-tls/tls.key") }}
{{- end }}
{{- else }}
{{- $redis := dict "urls" (include "waystation.redisUrls" $root | fromJsonArray) "durability" $root.Values.redis.durability "partitions" $root.Values.redis.partitions }}
{{- if $root.Values.redis.sentinelMaster }}
{{- $_ := set $redis "sentinel_master" $root.Values.redis.sentinelMaster }}
{{- end }}
{{- if eq $root.Values.redis.durability "replicated" }}
{{- $_ := set $redis "replicas" $root.Values.redis.replicas }}
{{- end }}
{{- if $root.Values.redis.passwords }}
{{- $_ := set $redis "username" $part }}
{{- $_ := set $redis "password_file" "/run/redis/password" }}
{{- end }}
{{- if $root.Values.redis.tls }}
{{- $_ := set $redis "ca_file" "/run/redis-tls/ca.crt" }}
{{- if $root.Values.redis.clientCertificate }}
{{- $_ := set $redis "certificate_file" "/run/redis-tls/tls.crt" }}
{{- $_ := set $redis "key_file" "/run/redis-tls/tls.key" }}
{{- end }}
{{- end }}
{{- $_ := set $config "redis" $redis }}
{{- end }}
{{- if $root.Values.secrets.jwt }}
{{- $_ := set $config "jwt_secret_file" "/run/secrets/waystation/jwt" }}
{{- end }}
{{- if $root.Values.tls.enabled }}
{{- $_ := set $config "tls" (dict "certificate_file" "/run/tls/tls.crt" "key_file" "/run/tls/tls.key" "ca_file" "/run/tls/ca.crt") }}
{{- end }}
{{- if and (eq $part "federation") $root.Values.federation.cells.enabled }}
{{- $_ := set $config "cells" (dict "listen" (printf "%s:8794" $any) "tls" (dict "certificate_file" "/run/cells-tls/tls.crt" "key_file" "/run/cells-tls/tls.key")) }}
{{- end }}
{{- mergeOverwrite $config (deepCopy (get $root.Values $part).config) | toJson }}
{{- end }}
