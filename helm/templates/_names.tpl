{{/* Names, labels and annotations. Each takes `root`; `component` is ingest, worker, setup or test. */}}

{{- define "call-processor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters leave room for what names of objects end with. */}}
{{- define "call-processor.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of a Deployment they can never change: nothing else belongs here. */}}
{{- define "call-processor.selectorLabels" -}}
app.kubernetes.io/name: {{ include "call-processor.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Of pods: those of the selector win, and there is no version among them, so that a new chart alone restarts nothing. */}}
{{- define "call-processor.podLabels" -}}
{{- $labels := merge (include "call-processor.selectorLabels" . | fromYaml) (.extra | default dict) .root.Values.commonLabels -}}
{{- toYaml $labels -}}
{{- end -}}

{{- define "call-processor.labels" -}}
{{- $ours := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/part-of" .root.Chart.Name -}}
{{- $selector := include "call-processor.selectorLabels" . | fromYaml -}}
{{- toYaml (merge $selector $ours (.extra | default dict) .root.Values.commonLabels) -}}
{{- end -}}

{{/* `ours` win over `extra`, and those over the common ones; "" if there are none. */}}
{{- define "call-processor.annotations" -}}
{{- with merge (dict) (.ours | default dict) (.extra | default dict) .root.Values.commonAnnotations -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/*
The metadata of an object: root, component, name, and labels, annotations, hook (a dict of annotations) where there are.
*/}}
{{- define "call-processor.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "call-processor.labels" (dict "root" .root "component" .component "extra" .labels) | nindent 2 }}
{{- with include "call-processor.annotations" (dict "root" .root "ours" .hook "extra" .annotations) }}
annotations:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What must be there before the Jobs of an install or upgrade are, and the Jobs; gone once all have succeeded. */}}
{{- define "call-processor.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "call-processor.serviceAccountName" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (printf "%s-%s" (include "call-processor.fullname" .root) .component) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "call-processor.image" -}}
{{- $image := .Values.image -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (not (empty $registry)) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* "true" or "": whether the Jobs, the test and KEDA have what they need. */}}
{{- define "call-processor.hasDsn" -}}
{{- if or .Values.postgres.dsn .Values.postgres.existingSecret }}true{{ end -}}
{{- end -}}

{{- define "call-processor.hasBrokers" -}}
{{- if .Values.config.kafka.bootstrap_servers }}true{{ end -}}
{{- end -}}

{{- define "call-processor.hasKeys" -}}
{{- if or .Values.keys.file .Values.keys.existingSecret }}true{{ end -}}
{{- end -}}

{{- define "call-processor.hasProperties" -}}
{{- if or .Values.kafka.properties .Values.kafka.existingSecret }}true{{ end -}}
{{- end -}}

{{- define "call-processor.runsMigrate" -}}
{{- if and .Values.migrate.enabled (include "call-processor.hasDsn" .) }}true{{ end -}}
{{- end -}}

{{- define "call-processor.runsTopics" -}}
{{- if and .Values.topics.enabled (include "call-processor.hasBrokers" .) }}true{{ end -}}
{{- end -}}

{{- define "call-processor.runsSetup" -}}
{{- if or (include "call-processor.runsMigrate" .) (include "call-processor.runsTopics" .) }}true{{ end -}}
{{- end -}}

{{- define "call-processor.runsTest" -}}
{{- $may := or (not (include "call-processor.hasKeys" .)) .Values.helmTest.existingSecret -}}
{{- if and .Values.helmTest.enabled (include "call-processor.hasDsn" .) (include "call-processor.hasBrokers" .) $may }}true{{ end -}}
{{- end -}}
