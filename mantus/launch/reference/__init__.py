"""Pages made from the code, so that they cannot drift: docs/phases.md, and a README and metadata for each component.

`python -m mantus.launch.reference` writes them; a test holds them to the code.
"""

from mantus.launch.reference.phases import reference

__all__ = ["reference"]
