"""`python -m tupate_hub`: the command line. A file `numpy.py` where it is called is not imported for that."""

import sys

if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):  # from Python 3.11 on; -m puts the current folder first
        del sys.path[0]

    from tupate_hub.cli import main

    main()
