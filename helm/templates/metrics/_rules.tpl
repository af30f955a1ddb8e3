{{/*
The groups of all files in files/rules, with the alerts' changes of the values: YAML, a list. What stands in the files is
not templated: Prometheus has the same braces.
*/}}
{{- define "call-processor.ruleGroups" -}}
{{- $values := .Values.metrics.prometheusRule -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" }}
{{- range $group := ($.Files.Get $path | fromYaml).groups }}
{{- $rules := list }}
{{- range $rule := $group.rules }}
{{- $change := get $values.alerts ($rule.alert | default "") | default dict }}
{{- if not (and (hasKey $change "enabled") (not $change.enabled)) }}
{{- if $rule.alert }}
{{- $labels := merge (dict) ($change.labels | default dict) $values.alertLabels ($rule.labels | default dict) }}
{{- $annotations := merge (dict) ($change.annotations | default dict) ($rule.annotations | default dict) }}
{{- with $annotations.runbook_url }}
{{- if not (contains "://" .) }}
{{- $_ := set $annotations "runbook_url" (printf "%s%s" $values.runbookBaseUrl .) }}
{{- end }}
{{- end }}
{{- $rule = merge (dict "labels" $labels "annotations" $annotations) (omit $change "enabled" "labels" "annotations") $rule }}
{{- end }}
{{- $rules = append $rules $rule }}
{{- end }}
{{- end }}
{{- if $rules }}
{{ list (merge (dict "rules" $rules) (omit $group "rules")) | toYaml }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The names of all alerts, as a YAML list. */}}
{{- define "call-processor.alertNames" -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" }}
{{- range $group := ($.Files.Get $path | fromYaml).groups }}
{{- range $rule := $group.rules }}
{{- if $rule.alert }}
- {{ $rule.alert }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
