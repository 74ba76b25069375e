"""`python -m xrayssl` is the command `xrayssl`."""

import sys

from xrayssl.cli import main

if __name__ == "__main__":
    sys.exit(main())
