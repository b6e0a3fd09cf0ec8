"""Training as a PyTorchJob (Kubeflow training operator 1.9): Master and Workers, or elastic Workers only.

It knows kubeflow.org/v1 by the operator's own SDK, not what is trained. `torchrun` without flags reads the PET_*
variables that the operator sets in either shape.
"""

from typing import Any

from mantus.launch.jobs.spec import FINISHED_TTL_S, Body, JobSpec, outcome_of, pod_template

ENDS = {"Succeeded": "succeeded", "Failed": "failed", "Suspended": "suspended"}
MAX_RESTARTS = 20
"""Of an elastic job: each time it grows, shrinks or loses a pod counts."""


class PyTorchJob:
    """kubeflow.org/v1 PyTorchJob."""

    group, version, plural = "kubeflow.org", "v1", "pytorchjobs"

    def body(self, spec: JobSpec, namespace: str) -> Body:
        """The object to create."""
        from kubeflow.training import models

        policy = models.KubeflowOrgV1RunPolicy(
            clean_pod_policy="Running",
            active_deadline_seconds=spec.cluster.deadline_s,
            ttl_seconds_after_finished=FINISHED_TTL_S,
            backoff_limit=MAX_RESTARTS,
            suspend=bool(spec.cluster.queue),
        )
        job = models.KubeflowOrgV1PyTorchJob(
            api_version="kubeflow.org/v1",
            kind="PyTorchJob",
            metadata=spec.metadata(namespace),
            spec=models.KubeflowOrgV1PyTorchJobSpec(run_policy=policy, **self._replicas(spec)),
        )
        body: Body = plain(job)
        return body

    def _replicas(self, spec: JobSpec) -> dict[str, Any]:
        from kubeflow.training import models

        def replica(num: int) -> Any:
            template = pod_template(spec, "pytorch", "")
            return models.KubeflowOrgV1ReplicaSpec(replicas=num, restart_policy="ExitCode", template=template)

        if spec.cluster.min_nodes:
            elastic = models.KubeflowOrgV1ElasticPolicy(
                min_replicas=spec.cluster.min_nodes,
                max_replicas=spec.pods,
                rdzv_backend="c10d",
                max_restarts=MAX_RESTARTS,
            )
            return {
                "elastic_policy": elastic,
                "nproc_per_node": str(spec.processes),
                "pytorch_replica_specs": {"Worker": replica(spec.pods)},
            }
        replicas = {"Master": replica(1)}
        if spec.pods > 1:
            replicas["Worker"] = replica(spec.pods - 1)
        return {"nproc_per_node": str(spec.processes), "pytorch_replica_specs": replicas}

    def selector(self, name: str) -> str:
        """Label selector of the job's pods."""
        return f"training.kubeflow.org/job-name={name}"

    def outcome(self, stored: Body) -> tuple[str, str]:
        """What became of it."""
        return outcome_of(stored, ENDS)


def plain(value: Any) -> Any:
    """A model of the SDK as JSON has it: only what is set, by its name in the API."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "attribute_map"):
        fields = ((shown, getattr(value, name)) for name, shown in value.attribute_map.items())
        return {shown: plain(item) for shown, item in fields if item is not None}
    return value
