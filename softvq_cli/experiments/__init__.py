"""Chains and grids of runs: the paper's tables and sweeps."""
