"""A phase as a Kubernetes Indexed Job: its pods divide the work (see mantus/storage/share.py), or one does it all.

It knows batch/v1, not pods' inside.
"""

from mantus.launch.jobs.spec import FINISHED_TTL_S, Body, JobSpec, outcome_of, pod_template

ENDS = {"Complete": "succeeded", "Failed": "failed", "FailureTarget": "failed", "Suspended": "suspended"}
WRONG_INPUT = 2
"""Exit code that no second try mends."""


class IndexedJob:
    """batch/v1 Job with completionMode Indexed."""

    group, version, plural = "batch", "v1", "jobs"

    def body(self, spec: JobSpec, namespace: str) -> Body:
        """The object to create."""
        rule = {"containerName": "phase", "operator": "In", "values": [1, WRONG_INPUT]}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": spec.metadata(namespace),
            "spec": {
                "completions": spec.pods,
                "parallelism": spec.pods,
                "completionMode": "Indexed",
                "backoffLimit": 3 * spec.pods,
                "activeDeadlineSeconds": spec.cluster.deadline_s,
                "ttlSecondsAfterFinished": FINISHED_TTL_S,
                "suspend": bool(spec.cluster.queue),
                "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": rule}]},
                "template": pod_template(spec, "phase", "Never"),
            },
        }

    def selector(self, name: str) -> str:
        """Label selector of the job's pods."""
        return f"batch.kubernetes.io/job-name={name}"

    def outcome(self, stored: Body) -> tuple[str, str]:
        """What became of it."""
        return outcome_of(stored, ENDS)
