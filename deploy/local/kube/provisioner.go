//go:build !api

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const provisionerName = "ehrnet.dev/local"

func init() {
	components["local-volume-provisioner"] = newProvisionerCommand
}

// directories is a controller.Provisioner that makes each PersistentVolume a directory below root on the node that the scheduler
// chose. The volumes are of type "local" and not "hostPath": only for those does the kubelet
// apply a pod's fsGroup, so that a pod that forgets it fails here as it would on a real cluster.
type directories struct{ root string }

func newProvisionerCommand() *cobra.Command {
	var kubeconfig string
	var volumes directories
	command := &cobra.Command{
		Use:   "local-volume-provisioner",
		Short: "Make a directory of this node for every claim of the local storage class",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			ctx := klog.NewContext(cmd.Context(), klog.Background())
			controller.NewProvisionController(ctx, client, provisionerName, volumes,
				controller.LeaderElection(false)).Run(ctx)
			return nil
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "file that says how to reach the API server")
	command.Flags().StringVar(&volumes.root, "directory", "", "existing directory that holds the volumes")
	return command
}

// Provision makes the directory and describes it; asked again, it does not mind that it exists.
func (d directories) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf(
			"storage class %s must use volumeBindingMode WaitForFirstConsumer", options.StorageClass.Name)
	}
	path := filepath.Join(d.root, options.PVName)
	if err := os.Mkdir(path, 0o770); err != nil && !os.IsExist(err) {
		return nil, controller.ProvisioningFinished, err
	}
	// The name is the host name label's value too: the cluster script gives both.
	hostname := v1.NodeSelectorRequirement{
		Key:      v1.LabelHostname,
		Operator: v1.NodeSelectorOpIn,
		Values:   []string{options.SelectedNodeName},
	}
	terms := []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{hostname}}}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity: v1.ResourceList{
				v1.ResourceStorage: options.PVC.Spec.Resources.Requests[v1.ResourceStorage],
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}},
			NodeAffinity:           &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: terms}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the directory with what is in it.
func (d directories) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	return os.RemoveAll(filepath.Join(d.root, volume.Name))
}
