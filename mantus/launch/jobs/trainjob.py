"""Training as a TrainJob (Kubeflow Trainer v2): so many nodes of the cluster's `torch-distributed` runtime.

It knows trainer.kubeflow.org/v1alpha1 as plain objects: its SDK and the training operator's own overlay each other.
"""

from mantus.launch.jobs.spec import Body, JobSpec, outcome_of, pod_template

ENDS = {"Complete": "succeeded", "Failed": "failed", "Suspended": "suspended"}
RUNTIME = "torch-distributed"
PATCHABLE = (
    "nodeSelector",
    "securityContext",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "volumes",
)
"""What v1alpha1 lets a TrainJob change in its runtime's pods; the pull policy and priority are the runtime's own."""


class TrainJob:
    """trainer.kubeflow.org/v1alpha1 TrainJob."""

    group, version, plural = "trainer.kubeflow.org", "v1alpha1", "trainjobs"

    def body(self, spec: JobSpec, namespace: str) -> Body:
        """The object to create. What a TrainJob's trainer has no field for goes into a patch of the runtime's pods."""
        template = pod_template(spec, "node", "")
        container = template["spec"].pop("containers")[0]
        trainer = {name: container.pop(name) for name in ("image", "command", "env")}
        if asked := container.pop("resources"):
            trainer["resourcesPerNode"] = asked
        inner = {name: container[name] for name in ("name", "securityContext", "volumeMounts")}
        pod = {name: value for name, value in template["spec"].items() if name in PATCHABLE}
        patch = {**template, "spec": {**pod, "containers": [inner]}}
        job = {"name": "node", "template": {"spec": {"template": patch}}}
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": spec.metadata(namespace),
            "spec": {
                "runtimeRef": {"name": RUNTIME},
                "suspend": bool(spec.cluster.queue),
                "activeDeadlineSeconds": spec.cluster.deadline_s,
                "trainer": {**trainer, "numNodes": spec.pods, "numProcPerNode": spec.processes},
                "runtimePatches": [
                    {
                        "manager": "mantus.dev/launcher",
                        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}},
                    }
                ],
            },
        }

    def selector(self, name: str) -> str:
        """Label selector of the job's pods."""
        return f"jobset.sigs.k8s.io/jobset-name={name}"

    def outcome(self, stored: Body) -> tuple[str, str]:
        """What became of it."""
        return outcome_of(stored, ENDS)
