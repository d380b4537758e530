"""Devices: how they are reached, what runs on them, how they are timed, and where the timings are kept.

`agent`, `worker`, `protocol`, `timing`, `speed`, `watch`, `load`, `feeds`, `probe`, `errors` and `runtimes/` are the
device's side: the standard library and the runtime (with its numpy) only, Python 3.8, so that they can be sent to a
board as one archive.
"""
