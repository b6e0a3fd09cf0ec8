"""Phases as jobs on Kubernetes: started, adopted, watched, ended.

It knows jobs, pods and manifests in the store, not what any phase does.
"""

from mantus.launch.jobs.launcher import make_on_cluster

__all__ = ["make_on_cluster"]
