{{- define "landfall.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "landfall.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "landfall.labels" -}}
{{ include "landfall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "landfall.serviceAccount" -}}
{{- $default := ternary (include "landfall.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end }}

{{- /* landfall.toml. Strings, numbers and lists of TOML are written as those of JSON. */}}
{{- define "landfall.toml" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- $variables := .Values.secret.variables | default dict -}}
{{- if eq .Values.storage "bucket" -}}
  {{- if not (or (get $settings "s3-bucket") (get $settings "gcs-bucket") (get $settings "azure-storage")) -}}
    {{- fail "storage: bucket needs settings.s3-bucket, gcs-bucket or azure-storage" -}}
  {{- end -}}
  {{- if not (or (get $settings "database") (hasKey $variables "LANDFALL_DATABASE")) -}}
    {{- fail "storage: bucket needs a PostgreSQL database: set secret.variables.LANDFALL_DATABASE" -}}
  {{- end -}}
  {{- $settings = merge $settings (dict "lease" "store") -}}
{{- else -}}
  {{- $settings = merge $settings (dict "upload-dir" "/srv/tusd-data/data") -}}
{{- end -}}
{{- range $name, $value := $settings }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end }}
