{{/*
The pod of every kind. root; component: whose values are read (ingest, worker, setup); args; reads: which secrets are
mounted (kafka, postgres, keys); hook: true if it runs before the release's own objects are there; restartPolicy and
container: YAML that is added to the pod and to the container.
*/}}
{{- define "call-processor.podSpec" -}}
{{- $root := .root -}}
{{- $v := get $root.Values (.component | replace "test" "setup") -}}
serviceAccountName: {{ include "call-processor.serviceAccountName" (dict "root" $root "component" (.component | replace "test" "ingest")) }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with concat $root.Values.global.imagePullSecrets $root.Values.imagePullSecrets | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod }}
{{ . }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  {{- $ours := dict
    "labelSelector" (dict "matchLabels" (include "call-processor.selectorLabels" $ | fromYaml))
    "matchLabelKeys" (list "pod-template-hash") }}
  {{- list (merge (dict) . $ours) | toYaml | nindent 2 }}
  {{- end }}
{{- end }}
{{- with $v.initContainers }}
initContainers:
  {{- tpl (toYaml .) $root | nindent 2 }}
{{- end }}
containers:
  - name: {{ .name | default .component }}
    image: {{ include "call-processor.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    command: {{ .command | default (list "call-processor") | toJson }}
    args: {{ .args | toJson }}
    env:
      {{- include "call-processor.environment" . | trim | nindent 6 }}
    {{- with concat $root.Values.envFrom $v.envFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .container }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $v.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $root.Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      {{- range $secret, $source := include "call-processor.secrets" . | fromYaml }}
      - name: {{ $secret }}
        mountPath: /etc/call-processor/{{ $secret }}
        readOnly: true
      {{- end }}
      {{- with concat (.mounts | default list) $v.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  {{- with $v.extraContainers }}
  {{- tpl (toYaml .) $root | nindent 2 }}
  {{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: {{ $root.Values.tmpSizeLimit }}
  {{- range $secret, $source := include "call-processor.secrets" . | fromYaml }}
  - name: {{ $secret }}
    secret:
      secretName: {{ $source.name }}
      defaultMode: 0440
  {{- end }}
  {{- with concat (.volumes | default list) $v.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The secrets that this pod reads and that there are: name and key of each. Whole secrets are mounted, not single files
of them, so that a change reaches the pod. */}}
{{- define "call-processor.secrets" -}}
{{- $values := .root.Values -}}
{{- $ours := printf "%s%s" (include "call-processor.fullname" .root) (ternary "-setup" "" (.hook | default false)) -}}
{{- if and (has "kafka" .reads) (include "call-processor.hasProperties" .root) }}
kafka: {name: {{ $values.kafka.existingSecret | default (printf "%s-kafka" $ours) }}, key: {{ $values.kafka.existingSecretKey }}}
{{- end }}
{{- if and (has "keys" .reads) (include "call-processor.hasKeys" .root) }}
keys: {name: {{ $values.keys.existingSecret | default (printf "%s-keys" $ours) }}, key: {{ $values.keys.existingSecretKey }}}
{{- end }}
{{- if and (has "postgres" .reads) (include "call-processor.hasDsn" .root) }}
postgres: {name: {{ $values.postgres.existingSecret | default (printf "%s-postgres" $ours) }}, key: {{ $values.postgres.existingSecretKey }}}
{{- end }}
{{- end -}}

{{/* Settings by section and name, the files of secrets, where to listen; then what the values add. */}}
{{- define "call-processor.environment" -}}
{{- $root := .root -}}
{{- range include "call-processor.settings" . | fromYamlArray }}
- name: CALL_PROCESSOR_{{ .name }}
  value: {{ .value | quote }}
{{- end }}
{{- with concat $root.Values.extraEnv (get $root.Values (.component | replace "test" "setup")).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
A list of name (without the prefix) and value (text). Numbers as JSON has them: as text Go would write 8.388608e+06. Every
role gets every setting, as each of them checks all.
*/}}
{{- define "call-processor.settings" -}}
{{- $values := .root.Values -}}
{{- range $section := list "kafka" "ingest" "worker" "log" }}
{{- range $name, $value := get $values.config $section }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "") (and (eq $section "ingest") (eq $name "max_in_flight_bytes"))) }}
- name: {{ printf "%s__%s" $section $name | upper }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- $files := dict "kafka" "KAFKA__PROPERTIES_FILE" "keys" "INGEST__KEYS_FILE" "postgres" "POSTGRES__DSN_FILE" }}
{{- range $secret, $source := include "call-processor.secrets" . | fromYaml }}
- name: {{ get $files $secret }}
  value: /etc/call-processor/{{ $secret }}/{{ $source.key }}
{{- end }}
- name: INGEST__MAX_IN_FLIGHT_BYTES
  value: {{ include "call-processor.maxInFlightBytes" .root | quote }}
{{- if eq .component "ingest" }}
- name: INGEST__LISTEN
  value: {{ printf "%s:8080" $values.listenHost | quote }}
{{- end }}
{{- if has .component (list "ingest" "worker") }}
- name: ADMIN__LISTEN
  value: {{ printf "%s:9464" $values.listenHost | quote }}
{{- end }}
{{- end -}}
