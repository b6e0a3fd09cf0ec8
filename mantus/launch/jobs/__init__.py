"""Phases as jobs on Kubernetes, started, adopted, watched, ended; and as tasks of Ray.

It knows jobs, pods and manifests in the store, not what any phase does.
"""

from mantus.launch.jobs.launcher import DIVIDED, make_on_cluster
from mantus.launch.jobs.raytasks import make_on_ray

__all__ = ["DIVIDED", "make_on_cluster", "make_on_ray"]
