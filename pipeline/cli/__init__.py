"""The command line: it parses, calls and prints, and nothing else of cutback ends the process or draws.

Importing it imports neither torch nor onnx nor a runtime; a command imports what it needs when it runs.
"""

from pipeline.cli.main import main

__all__ = ["main"]
