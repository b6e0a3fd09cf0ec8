"""A release behind a KServe InferenceService: written, waited for, tested, promoted or taken back.

It knows releases, InferenceServices and HTTP, not how a release is made or how a server answers.
"""

from mantus.launch.deploy.config import DeployConfig
from mantus.launch.deploy.rollout import run

__all__ = ["DeployConfig", "run"]
