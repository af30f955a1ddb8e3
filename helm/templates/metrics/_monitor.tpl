{{/* What ServiceMonitor and PodMonitor have in common: one endpoint. */}}
{{- define "call-processor.endpoint" -}}
- port: admin
  path: /metrics
  interval: {{ .interval }}
  scrapeTimeout: {{ .scrapeTimeout }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Which services or pods: both roles of this release. */}}
{{- define "call-processor.monitored" -}}
podTargetLabels: [app.kubernetes.io/instance, app.kubernetes.io/component]
namespaceSelector:
  matchNames: [{{ .Release.Namespace | quote }}]
selector:
  matchLabels:
    app.kubernetes.io/name: {{ include "call-processor.name" . | quote }}
    app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}
