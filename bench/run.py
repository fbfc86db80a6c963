"""What `make bench` calls; the command line is in cli.py."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # instead of bench/ itself, whose modules are to be found as bench.NAME
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

    from bench.cli import main

    sys.exit(main())
