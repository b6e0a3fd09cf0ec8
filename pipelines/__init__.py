"""Pipelines: components assembled; the same objects run on a laptop (kfp.local) and on Kubeflow Pipelines."""
