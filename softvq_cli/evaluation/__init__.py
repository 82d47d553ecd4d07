"""What a representation is worth: clustering, probes, codebook use, rate."""
