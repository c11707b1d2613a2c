package main

import (
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func init() {
	components["kube-apiserver"] = apiserver.NewAPIServerCommand
	components["kubectl"] = kubectl.NewDefaultKubectlCommand
}
