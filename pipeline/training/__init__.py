"""Training after a cut: distillation from the uncut network, labels, or both, at the small network's size and speed."""
