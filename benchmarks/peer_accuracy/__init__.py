"""Equal accuracy on real data: Torch-Pruning beside cutback, the same recovery for all, timed in one run.

python -m benchmarks.peer_accuracy --help
"""
