"""KFP components, one folder a phase: unpack arguments, call the phase, fill the output artifact."""

import os

IMAGE = os.environ.get("MANTUS_IMAGE", "mantus-python:0.1.0")
"""The image that components run in; it has mantus installed. Set MANTUS_IMAGE when compiling to use another."""
