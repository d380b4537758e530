"""The profile database: timings of kernels, kept under what they depend on."""
