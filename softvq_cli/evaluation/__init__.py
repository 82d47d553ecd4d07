"""Evaluation of representations: clustering, probes, codebook usage, image issues and maps."""
