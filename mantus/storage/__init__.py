"""Objects and manifests: URI -> bytes, typed artifacts with content keys, phases that run once.

It knows nothing of text, models or Kubernetes.
"""

from mantus.storage.artifact import FileEntry, Manifest, Reference, fetch, read_manifest
from mantus.storage.objects import Store, StoreError, open_store
from mantus.storage.phase import ArtifactURI, PhaseConfig, Work, execute

__all__ = [
    "ArtifactURI",
    "FileEntry",
    "Manifest",
    "PhaseConfig",
    "Reference",
    "Store",
    "StoreError",
    "Work",
    "execute",
    "fetch",
    "open_store",
    "read_manifest",
]
