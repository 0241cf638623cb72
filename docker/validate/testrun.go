package validate

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestRun is the resource of k6-operator with the fields of its API reference (k6.io/v1alpha1, TestRunSpec).
// The operator's own Go module can not be fetched everywhere.
type TestRun struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              TestRunSpec `json:"spec"`
}

// TestRunSpec is what a user writes.
type TestRunSpec struct {
	Script      Script                 `json:"script"`
	Parallelism int32                  `json:"parallelism"`
	Separate    bool                   `json:"separate"`
	Arguments   string                 `json:"arguments"`
	Ports       []corev1.ContainerPort `json:"ports"`
	Initializer *Pod                   `json:"initializer"`
	Starter     Pod                    `json:"starter"`
	Runner      Pod                    `json:"runner"`
	Quiet       string                 `json:"quiet"`
	Paused      string                 `json:"paused"`
	Cleanup     string                 `json:"cleanup"`
}

// Script says where the script is: in one of three places.
type Script struct {
	ConfigMap struct {
		Name string `json:"name"`
		File string `json:"file"`
	} `json:"configMap"`
	VolumeClaim struct {
		Name     string `json:"name"`
		File     string `json:"file"`
		ReadOnly bool   `json:"readOnly"`
	} `json:"volumeClaim"`
	LocalFile string `json:"localFile"`
}

// Pod is what can be said of the pods of the operator.
type Pod struct {
	Affinity                     *corev1.Affinity                  `json:"affinity"`
	AutomountServiceAccountToken string                            `json:"automountServiceAccountToken"`
	Env                          []corev1.EnvVar                   `json:"env"`
	EnvFrom                      []corev1.EnvFromSource            `json:"envFrom"`
	Image                        string                            `json:"image"`
	ImagePullSecrets             []corev1.LocalObjectReference     `json:"imagePullSecrets"`
	ImagePullPolicy              corev1.PullPolicy                 `json:"imagePullPolicy"`
	NodeSelector                 map[string]string                 `json:"nodeSelector"`
	Tolerations                  []corev1.Toleration               `json:"tolerations"`
	TopologySpreadConstraints    []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints"`
	Resources                    corev1.ResourceRequirements       `json:"resources"`
	ServiceAccountName           string                            `json:"serviceAccountName"`
	SecurityContext              corev1.PodSecurityContext         `json:"securityContext"`
	ContainerSecurityContext     corev1.SecurityContext            `json:"containerSecurityContext"`
	Volumes                      []corev1.Volume                   `json:"volumes"`
	VolumeMounts                 []corev1.VolumeMount              `json:"volumeMounts"`
}
