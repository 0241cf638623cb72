package validate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// strict reads a manifest into the type of the Kubernetes API and refuses unknown and doubled fields.
func strict[T any](t *testing.T, path string) T {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := yaml.UnmarshalStrict(raw, &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

// TestEveryManifestIsTested, so that a new file can not go unread.
func TestEveryManifestIsTested(t *testing.T) {
	files, err := filepath.Glob("../k8s/*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	if want := []string{"job.yaml", "merge.yaml", "results.yaml", "testrun.yaml"}; !slices.Equal(names, want) {
		t.Errorf("docker/k8s has %v, the tests read %v", names, want)
	}
}

func TestIndexedJob(t *testing.T) {
	job := strict[batchv1.Job](t, "../k8s/job.yaml")
	if job.APIVersion != "batch/v1" || job.Kind != "Job" {
		t.Errorf("it is a %s of %s", job.Kind, job.APIVersion)
	}
	s := job.Spec
	if s.CompletionMode == nil || *s.CompletionMode != batchv1.IndexedCompletion {
		t.Error("the job is not Indexed: its pods have no index")
	}
	if s.Completions == nil || s.Parallelism == nil || *s.Completions != *s.Parallelism || *s.Completions < 2 {
		t.Fatal("all pods must run at once, one for each share")
	}
	c := only(t, s.Template.Spec)
	if !slices.Contains(c.Args, fmt.Sprintf("--segment=index/%d", *s.Completions)) {
		t.Errorf("no share of %d in %v", *s.Completions, c.Args)
	}
	if s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever || s.BackoffLimitPerIndex == nil || *s.BackoffLimitPerIndex != 0 {
		t.Error("a share could be sent twice")
	}
	defined(t, c, "JOB_COMPLETION_INDEX")
	mounted(t, c, s.Template.Spec.Volumes)
	claimed(t, s.Template.Spec.Volumes)
}

func TestMergeJob(t *testing.T) {
	generators := strict[batchv1.Job](t, "../k8s/job.yaml")
	job := strict[batchv1.Job](t, "../k8s/merge.yaml")
	c := only(t, job.Spec.Template.Spec)
	if !slices.Equal(c.Args[:2], []string{"load", "merge"}) {
		t.Errorf("it runs %v", c.Args)
	}
	for i := range *generators.Spec.Completions {
		if path := fmt.Sprintf("/results/%d.json", i); !slices.Contains(c.Args, path) {
			t.Errorf("%s is not merged", path)
		}
	}
	defined(t, c)
	mounted(t, c, job.Spec.Template.Spec.Volumes)
	claimed(t, job.Spec.Template.Spec.Volumes)
}

func TestVolumeClaim(t *testing.T) {
	claim := strict[corev1.PersistentVolumeClaim](t, "../k8s/results.yaml")
	if claim.Kind != "PersistentVolumeClaim" || claim.Name != "assay-results" || !slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteMany) {
		t.Errorf("%s %s with %v", claim.Kind, claim.Name, claim.Spec.AccessModes)
	}
}

func TestTestRun(t *testing.T) {
	r := strict[TestRun](t, "../k8s/testrun.yaml")
	if r.APIVersion != "k6.io/v1alpha1" || r.Kind != "TestRun" || r.Spec.Parallelism < 2 {
		t.Errorf("%s of %s, parallelism %d", r.Kind, r.APIVersion, r.Spec.Parallelism)
	}
	if r.Spec.Script.ConfigMap.Name == "" || r.Spec.Script.ConfigMap.File == "" {
		t.Error("it names no script")
	}
	if _, err := os.Stat(filepath.Join("../../scenarios/k6", r.Spec.Script.ConfigMap.File)); err != nil {
		t.Errorf("the script is none of the repository's: %v", err)
	}
	if !strings.Contains(r.Spec.Arguments, "--out assay=/results/") || r.Spec.Runner.Image != "assay-k6" {
		t.Errorf("runner %s with %q writes no bundle", r.Spec.Runner.Image, r.Spec.Arguments)
	}
	c := corev1.Container{Args: strings.Fields(r.Spec.Arguments), Env: r.Spec.Runner.Env, VolumeMounts: r.Spec.Runner.VolumeMounts}
	defined(t, c)
	mounted(t, c, r.Spec.Runner.Volumes)
	claimed(t, r.Spec.Runner.Volumes)
}

// TestStrictness: the reader refuses what Kubernetes would drop or reject.
func TestStrictness(t *testing.T) {
	for _, bad := range []string{"spec: {completionMod: Indexed}", "spec: {completions: three}", "kind: Job\nkind: Job"} {
		if err := yaml.UnmarshalStrict([]byte(bad), &batchv1.Job{}); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
	if err := yaml.UnmarshalStrict([]byte("spec: {paralellism: 3}"), &TestRun{}); err == nil {
		t.Error("a misspelt field of a TestRun is read")
	}
}

func only(t *testing.T, p corev1.PodSpec) corev1.Container {
	t.Helper()
	if len(p.Containers) != 1 {
		t.Fatalf("%d containers, want one", len(p.Containers))
	}
	return p.Containers[0]
}

// defined checks that every $(NAME) of the arguments is a variable of the container; Kubernetes would pass
// an unknown one as it is.
func defined(t *testing.T, c corev1.Container, given ...string) {
	t.Helper()
	for _, e := range c.Env {
		given = append(given, e.Name)
	}
	for _, a := range c.Args {
		for _, part := range strings.Split(a, "$(")[1:] {
			if name, _, ok := strings.Cut(part, ")"); !ok || !slices.Contains(given, name) {
				t.Errorf("%s: %s is no variable of the container", a, name)
			}
		}
	}
}

// mounted checks that every path under /results is on a volume that the pod has.
func mounted(t *testing.T, c corev1.Container, volumes []corev1.Volume) {
	t.Helper()
	for _, m := range c.VolumeMounts {
		if !slices.ContainsFunc(volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("volume %s is mounted and not there", m.Name)
		}
	}
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/results" }) {
		t.Error("/results is on no volume: the results would go with the pod")
	}
}

// claimed checks that the volume is the claim of results.yaml.
func claimed(t *testing.T, volumes []corev1.Volume) {
	t.Helper()
	claim := strict[corev1.PersistentVolumeClaim](t, "../k8s/results.yaml")
	if len(volumes) != 1 || volumes[0].PersistentVolumeClaim == nil || volumes[0].PersistentVolumeClaim.ClaimName != claim.Name {
		t.Errorf("volumes %v, want the claim %s", volumes, claim.Name)
	}
}
