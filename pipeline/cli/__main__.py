"""`python -m pipeline.cli` is `cutback`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
