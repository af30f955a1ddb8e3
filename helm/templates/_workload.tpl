{{/* The Deployment of a role: root, component, reads, ports (YAML of the container's ports beside that of the admin server). */}}
{{- define "call-processor.deployment" -}}
{{- $root := .root -}}
{{- $role := get $root.Values .component -}}
{{- $pods := include "call-processor.pods" . | fromYaml -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "call-processor.metadata" (dict "root" $root "component" .component
    "name" (printf "%s-%s" (include "call-processor.fullname" $root) .component)
    "labels" $role.labels "annotations" $role.annotations) | nindent 2 }}
spec:
  {{- if not $pods.scaler }}
  replicas: {{ toJson $role.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ toJson $role.revisionHistoryLimit }}
  progressDeadlineSeconds: {{ toJson $role.progressDeadlineSeconds }}
  minReadySeconds: {{ toJson $role.minReadySeconds }}
  strategy:
    {{- ternary (dict "type" "Recreate") $role.strategy (eq $role.strategy.type "Recreate") | toYaml | nindent 4 }}
  selector:
    matchLabels:
      {{- include "call-processor.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "call-processor.podLabels" (dict "root" $root "component" .component "extra" $role.podLabels) | nindent 8 }}
      {{- with include "call-processor.annotations" (dict "root" $root "extra" $role.podAnnotations
        "ours" (include "call-processor.checksum" . | fromYaml)) }}
      annotations:
        {{- . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "call-processor.podSpec" (merge (dict
        "args" (list .component)
        "pod" (printf "terminationGracePeriodSeconds: %s" (include "call-processor.graceSeconds" .))
        "container" (include "call-processor.serving" .)) .) | nindent 6 }}
{{- end -}}

{{/* Ports above 1024, and three questions to the admin server, none of which asks whether a broker or a database is there
while the process lives. */}}
{{- define "call-processor.serving" -}}
{{- $role := get .root.Values .component -}}
ports:
  {{- with .ports }}
  {{- . | nindent 2 }}
  {{- end }}
  - name: admin
    containerPort: 9464
startupProbe:
  {{- toYaml (merge (dict "httpGet" (dict "path" "/livez" "port" "admin")) $role.startupProbe) | nindent 2 }}
livenessProbe:
  {{- toYaml (merge (dict "httpGet" (dict "path" "/livez" "port" "admin")) $role.livenessProbe) | nindent 2 }}
readinessProbe:
  {{- toYaml (merge (dict "httpGet" (dict "path" "/readyz" "port" "admin")) $role.readinessProbe) | nindent 2 }}
{{- end -}}

{{/* Of the secrets that the chart itself makes. Not of the key file, which the door reads again by itself. */}}
{{- define "call-processor.checksum" -}}
{{- $values := .root.Values -}}
{{- $read := dict -}}
{{- if and (has "kafka" .reads) $values.kafka.properties }}{{ $_ := set $read "kafka" $values.kafka.properties }}{{ end -}}
{{- if and (has "postgres" .reads) $values.postgres.dsn }}{{ $_ := set $read "postgres" $values.postgres.dsn }}{{ end -}}
{{- if and $values.checksumAnnotations $read -}}
checksum/config: {{ toJson $read | sha256sum }}
{{- end -}}
{{- end -}}

{{/* A Job that runs before the release: root, name, args, reads, weight. */}}
{{- define "call-processor.job" -}}
{{- $root := .root -}}
{{- $setup := $root.Values.setup -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "call-processor.metadata" (dict "root" $root "component" "setup"
    "name" (printf "%s-%s" (include "call-processor.fullname" $root) .name)
    "labels" $setup.labels "annotations" $setup.annotations
    "hook" (include "call-processor.hook" . | fromYaml)) | nindent 2 }}
spec:
  backoffLimit: {{ toJson $setup.backoffLimit }}
  activeDeadlineSeconds: {{ toJson $setup.activeDeadlineSeconds }}
  template:
    metadata:
      labels:
        {{- include "call-processor.podLabels" (dict "root" $root "component" "setup" "extra" $setup.podLabels) | nindent 8 }}
      {{- with include "call-processor.annotations" (dict "root" $root "extra" $setup.podAnnotations) }}
      annotations:
        {{- . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "call-processor.podSpec" (merge (dict "component" "setup" "hook" true "pod" "restartPolicy: Never") .) | nindent 6 }}
{{- end -}}

{{- define "call-processor.horizontalPodAutoscaler" -}}
{{- $scaling := (get .root.Values .component).autoscaling -}}
{{- $name := printf "%s-%s" (include "call-processor.fullname" .root) .component -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "call-processor.metadata" (merge (dict "name" $name) .) | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ $name }}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
    {{- with $scaling.targetCPUUtilizationPercentage }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ . }}
    {{- end }}
    {{- with $scaling.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $scaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Where there is one pod, a budget would only keep its node from being drained. */}}
{{- define "call-processor.podDisruptionBudget" -}}
{{- $budget := (get .root.Values .component).podDisruptionBudget -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "call-processor.metadata" (merge (dict
    "name" (printf "%s-%s" (include "call-processor.fullname" .root) .component)) .) | nindent 2 }}
spec:
  {{- if not (kindIs "invalid" $budget.minAvailable) }}
  minAvailable: {{ $budget.minAvailable }}
  {{- else }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- end }}
  unhealthyPodEvictionPolicy: {{ $budget.unhealthyPodEvictionPolicy }}
  selector:
    matchLabels:
      {{- include "call-processor.selectorLabels" . | nindent 6 }}
{{- end -}}

{{- define "call-processor.serviceAccount" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "call-processor.metadata" (merge (dict
    "name" (include "call-processor.serviceAccountName" .) "annotations" $account.annotations) .) | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}
