"""What a laptop or a cluster lacks before a run, found without leaving anything behind.

It knows what Mantus needs, not how a run goes.
"""

from mantus.launch.doctor.checks import Check, lacking, table
from mantus.launch.doctor.run import diagnose, guard

__all__ = ["Check", "diagnose", "guard", "lacking", "table"]
