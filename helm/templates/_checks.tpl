{{/* Values that contradict each other or could not work: a YAML list of sentences, all at once. */}}
{{- define "call-processor.problems" -}}
{{- include "call-processor.secretProblems" . }}
{{- include "call-processor.scalingProblems" . }}
{{- include "call-processor.memoryProblems" . }}
{{- include "call-processor.otherProblems" . }}
{{- end -}}

{{- define "call-processor.secretProblems" -}}
{{- range $section, $inline := dict "postgres" "dsn" "kafka" "properties" "keys" "file" }}
{{- $values := get $.Values $section }}
{{- if and $values.existingSecret (get $values $inline) }}
- {{ printf "%s.existingSecret and %s.%s are both set: keep one" $section $section $inline | quote }}
{{- end }}
{{- end }}
{{- if and (include "call-processor.hasKeys" .) .Values.config.ingest.auth_disabled }}
- "keys are given and config.ingest.auth_disabled is true: keep one"
{{- end }}
{{- end -}}

{{- define "call-processor.scalingProblems" -}}
{{- $partitions := .Values.topics.partitions | int64 }}
{{- if and .Values.worker.keda.enabled .Values.worker.autoscaling.enabled }}
- "worker.keda and worker.autoscaling are both enabled, and would pull the same Deployment to and fro: keep one"
{{- end }}
{{- if and .Values.worker.keda.enabled (not (include "call-processor.hasBrokers" .)) (not .Values.worker.keda.metadata.bootstrapServersFromEnv) }}
- "worker.keda is enabled and config.kafka.bootstrap_servers is not set: KEDA asks the brokers for the lag"
{{- end }}
{{- range $component := list "ingest" "worker" }}
{{- $role := get $.Values $component }}
{{- $pods := include "call-processor.pods" (dict "root" $ "component" $component) | fromYaml }}
{{- if gt (int64 $pods.least) (int64 $pods.most) }}
- {{ printf "%s.%s.minReplicas is %v, more than its maxReplicas, %v" $component $pods.scaler $pods.least $pods.most | quote }}
{{- end }}
{{- if and (eq $component "worker") (gt (int64 $pods.most) $partitions) }}
- {{ printf "up to %v workers for topics.partitions: %v: those beyond the partitions would have nothing to do; lower the workers, or say how many partitions there are" $pods.most $partitions | quote }}
{{- end }}
{{- if eq $pods.scaler "autoscaling" }}
{{- if and $role.autoscaling.targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" ($role.resources | default dict))) }}
- {{ printf "%s.autoscaling follows the CPU in percent of the request, and %s.resources.requests.cpu is not set" $component $component | quote }}
{{- end }}
{{- if not (or $role.autoscaling.targetCPUUtilizationPercentage $role.autoscaling.metrics) }}
- {{ printf "%s.autoscaling is enabled without any metric: set targetCPUUtilizationPercentage or metrics" $component | quote }}
{{- end }}
{{- end }}
{{- $budget := $role.podDisruptionBudget }}
{{- if and $budget.enabled (not (kindIs "invalid" $budget.minAvailable)) (not (kindIs "invalid" $budget.maxUnavailable)) }}
- {{ printf "%s.podDisruptionBudget has both minAvailable and maxUnavailable: set one to null" $component | quote }}
{{- end }}
{{- if and $budget.enabled (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable) }}
- {{ printf "%s.podDisruptionBudget has neither minAvailable nor maxUnavailable: set one" $component | quote }}
{{- end }}
{{- $needed := include (printf "call-processor.%sStopSeconds" $component) $ | int64 }}
{{- $grace := include "call-processor.graceSeconds" (dict "root" $ "component" $component) | int64 }}
{{- if le $grace $needed }}
- {{ printf "%s.terminationGracePeriodSeconds is %d, and stopping may take %d: what is begun would be cut off" $component $grace $needed | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "call-processor.memoryProblems" -}}
{{- with dig "limits" "memory" "" (.Values.ingest.resources | default dict) }}
{{- $limit := include "call-processor.bytes" . | int64 }}
{{- $inFlight := include "call-processor.maxInFlightBytes" $ | int64 }}
{{- $body := include "call-processor.setting" (dict "root" $ "section" "ingest" "name" "max_body_bytes") | int64 }}
{{- if gt (mul 3 $inFlight) $limit }}
- {{ printf "config.ingest.max_in_flight_bytes is %d, more than a third of ingest.resources.limits.memory (%v): it is held twice, as bodies and in librdkafka's queue" $inFlight . | quote }}
{{- end }}
{{- if lt $inFlight (mul 4 $body) }}
- {{ printf "ingest.resources.limits.memory is %v, which leaves %d bytes in flight, less than four of the largest bodies (config.ingest.max_body_bytes, %d): give it more memory, or take smaller bodies" . $inFlight $body | quote }}
{{- end }}
{{- end }}
{{- with dig "limits" "memory" "" (.Values.worker.resources | default dict) }}
{{- $needed := include "call-processor.workerBytes" $ | int64 }}
{{- if lt (include "call-processor.bytes" . | int64) $needed }}
- {{ printf "worker.resources.limits.memory is %v: with records of up to config.ingest.max_record_bytes a worker may need %dMi" . (div $needed 1048576) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "call-processor.otherProblems" -}}
{{- if and .Values.ingest.ingress.enabled (not .Values.ingest.ingress.hosts) }}
- "ingest.ingress is enabled without hosts: name one"
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
- "metrics.serviceMonitor and metrics.podMonitor are both enabled, and every series would be there twice: keep one"
{{- end }}
{{- range $component := list "ingest" "worker" "setup" }}
{{- $args := dict "root" $ "component" $component "reads" (list "kafka" "keys" "postgres") }}
{{- $ours := list }}
{{- range include "call-processor.settings" $args | fromYamlArray }}{{ $ours = append $ours (printf "CALL_PROCESSOR_%s" .name) }}{{ end }}
{{- range concat $.Values.extraEnv (get $.Values $component).extraEnv }}
{{- if has .name $ours }}
- {{ printf "extraEnv of %s sets %s, which the chart sets from other values: set those" $component .name | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- $alerts := include "call-processor.alertNames" . | fromYamlArray }}
{{- range $name, $change := .Values.metrics.prometheusRule.alerts }}
{{- if not (has $name $alerts) }}
- {{ printf "metrics.prometheusRule.alerts.%s: there is no such alert; there are %s" $name (join ", " $alerts) | quote }}
{{- end }}
{{- end }}
{{- end -}}
