{{/* A Kubernetes quantity of memory in bytes: 768Mi, 1G, 1.5Gi, 805306368. */}}
{{- define "call-processor.bytes" -}}
{{- $text := . | toString -}}
{{- if not (kindIs "string" .) -}}
{{- $text = . | int64 | toString -}}
{{- end -}}
{{- $units := dict "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit | default 1.0) | int64 -}}
{{- end -}}

{{/* The program's own default where the values do not say it; a test compares them with the settings. */}}
{{- define "call-processor.defaults" -}}
kafka: {topic: llm-call-end, group: call-processor}
ingest: {ack_timeout_s: 9, shutdown_wait_s: 0, max_body_bytes: 8388608, max_record_bytes: 8388608, max_in_flight_bytes: 268435456}
{{- end -}}

{{/* One setting as text: root, section, name. */}}
{{- define "call-processor.setting" -}}
{{- $defaults := include "call-processor.defaults" .root | fromYaml -}}
{{- $value := get (get .root.Values.config .section) .name -}}
{{- if or (kindIs "invalid" $value) (eq (toString $value) "") -}}
{{- $value = get (get $defaults .section) .name -}}
{{- end -}}
{{- ternary $value (toJson $value) (kindIs "string" $value) -}}
{{- end -}}

{{/*
What the door may hold in flight, in bytes: a third of its memory limit. The body is held once, its record once in
librdkafka's queue, and the last third is for the process. Without a limit the program's default stands.
*/}}
{{- define "call-processor.maxInFlightBytes" -}}
{{- $set := .Values.config.ingest.max_in_flight_bytes -}}
{{- $limit := dig "limits" "memory" "" (.Values.ingest.resources | default dict) -}}
{{- if $set -}}
{{- $set | int64 -}}
{{- else if $limit -}}
{{- div (include "call-processor.bytes" $limit | int64) 3 -}}
{{- else -}}
{{- include "call-processor.setting" (dict "root" . "section" "ingest" "name" "max_in_flight_bytes") | int64 -}}
{{- end -}}
{{- end -}}

{{/*
What a worker needs, in bytes: at its peak it held 11.5 times a full batch and the largest record in it (555 MiB with
records of 6 MiB), and 119 MiB when idle.
*/}}
{{- define "call-processor.workerBytes" -}}
{{- $record := include "call-processor.setting" (dict "root" . "section" "ingest" "name" "max_record_bytes") | int64 -}}
{{- add 134217728 (mul 12 (add 33554432 $record)) -}}
{{- end -}}

{{/*
Seconds that the door needs to stop: not ready, then answering what it has taken (ACK_TIMEOUT_S and one for bodies that
were on their way), then waiting for delivery reports (ACK_TIMEOUT_S again).
*/}}
{{- define "call-processor.ingestStopSeconds" -}}
{{- $wait := include "call-processor.setting" (dict "root" . "section" "ingest" "name" "shutdown_wait_s") | float64 -}}
{{- $ack := include "call-processor.setting" (dict "root" . "section" "ingest" "name" "ack_timeout_s") | float64 -}}
{{- addf $wait $ack $ack 1 | ceil | int64 -}}
{{- end -}}

{{/* Two turns of a worker, each at most a dead letter's acknowledgement (10 s) and a write (20 s). */}}
{{- define "call-processor.workerStopSeconds" -}}60{{- end -}}

{{- define "call-processor.graceSeconds" -}}
{{- $needed := include (printf "call-processor.%sStopSeconds" .component) .root | int64 -}}
{{- $set := (get .root.Values .component).terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $set -}}{{- add $needed 10 -}}{{- else -}}{{- $set | int64 -}}{{- end -}}
{{- end -}}

{{/* How many pods of a role there are at least and at most: root, component. As YAML: least, most, scaler. */}}
{{- define "call-processor.pods" -}}
{{- $role := get .root.Values .component -}}
{{- $keda := $role.keda | default (dict "enabled" false) -}}
{{- if $keda.enabled -}}
least: {{ $keda.minReplicas | int64 }}
most: {{ $keda.maxReplicas | default .root.Values.topics.partitions | int64 }}
scaler: keda
{{- else if $role.autoscaling.enabled -}}
least: {{ $role.autoscaling.minReplicas | int64 }}
most: {{ $role.autoscaling.maxReplicas | int64 }}
scaler: autoscaling
{{- else -}}
least: {{ $role.replicas | int64 }}
most: {{ $role.replicas | int64 }}
scaler: ""
{{- end -}}
{{- end -}}
