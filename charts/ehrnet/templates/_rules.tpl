{{/* What the operator does in a watched namespace. A test compares these rules with the API server's audit log. */}}
{{- define "ehrnet.rules" -}}
# The declared resources, which it follows.
- apiGroups: [ehrnet.dev]
  resources: [hospitals, orderers, peers, channels, chaincodes, consentpolicies, identities]
  verbs: [list, watch]
# Its finalizer on an orderer holds up a deletion that would cost a channel its quorum.
- apiGroups: [ehrnet.dev]
  resources: [orderers]
  verbs: [patch]
# Their status is the only other thing that it writes to them.
- apiGroups: [ehrnet.dev]
  resources:
    - hospitals/status
    - orderers/status
    - peers/status
    - channels/status
    - chaincodes/status
    - consentpolicies/status
    - identities/status
  verbs: [patch]
# Children block the deletion of the resource that owns them; where OwnerReferencesPermissionEnforcement is on, that
# needs this right.
- apiGroups: [ehrnet.dev]
  resources:
    - hospitals/finalizers
    - orderers/finalizers
    - peers/finalizers
    - channels/finalizers
    - chaincodes/finalizers
    - consentpolicies/finalizers
    - identities/finalizers
  verbs: [update]
# Keys, certificates and client bundles. get: it reads CA Secrets that users refer to, and looks before it makes one.
# create: keys are made once and never overwritten. update: renewal, against exactly the state that was read.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, update]
# Public MSPs, genesis blocks (made once) and consent policies; Services of nodes and contracts. update: repair of
# what server-side apply cannot remove.
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, update]
# Accounts of nodes and contracts; the nodes' volumes, which it makes itself so that they outlive the node.
- apiGroups: [""]
  resources: [serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
# Why a node is not ready (image cannot be pulled, no room) stands in its pod.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The nodes, and the hospitals' contracts.
- apiGroups: [apps]
  resources: [statefulsets, deployments]
  verbs: [get, list, watch, create, patch, update]
# Default deny, and the flows that Fabric needs. A contract calls nobody.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, update]
# A drain must not take a channel's quorum.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, update]
# What happened to a resource. patch: an Event that repeats is counted, not repeated.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
