"""Plots and pages from the artifacts of a run. It knows manifests and files, no phases."""
