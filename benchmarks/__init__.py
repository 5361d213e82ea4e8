"""Benchmarks, one file each; what they found is in docs/benchmarks."""
