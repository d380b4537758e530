"""Phones: the adb client, and phones that run nothing but shell commands and a runtime's own benchmark (host side)."""
