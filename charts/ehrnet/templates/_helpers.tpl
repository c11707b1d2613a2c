{{/* Name of everything in the release: the release's, with the chart's if that is not in it. */}}
{{- define "ehrnet.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the operator's pods. The NetworkPolicies of the ledger's nodes know them, see src/desired. */}}
{{- define "ehrnet.selector" -}}
app.kubernetes.io/name: ehrnet
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ehrnet.labels" -}}
{{ include "ehrnet.selector" . }}
app.kubernetes.io/part-of: ehrnet
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ehrnet.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The other programs of the same build: their images go with the operator's version. */}}
{{- define "ehrnet.contractImage" -}}
{{ .Values.contract.image | default (printf "%s-contract:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion)) }}
{{- end -}}

{{- define "ehrnet.devledgerImage" -}}
{{ .Values.ledger.embeddedImage | default (printf "%s-devledger:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion)) }}
{{- end -}}

{{/* Watched namespaces as a JSON list; empty where all are watched. */}}
{{- define "ehrnet.namespaces" -}}
{{- if .Values.watchAllNamespaces -}}
[]
{{- else -}}
{{ .Values.watchNamespaces | default (list .Release.Namespace) | toJson }}
{{- end -}}
{{- end -}}
