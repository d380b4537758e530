"""Data in: checked samples, accuracy, and batch-norm statistics re-estimated after a cut."""
