"""The engine that runs anywhere, for processors where OpenVINO does not. Only what is in here needs torch."""
