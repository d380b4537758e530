"""Latency as the device has it: kernels in place, the stairs they climb, and what a plan will cost."""
