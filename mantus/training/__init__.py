"""One loop for all objectives: batches, optimisers, checkpoints, trackers. It knows no Kubernetes."""
