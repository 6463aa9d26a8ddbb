"""`python -m tupate_hub`: the command line."""

from tupate_hub.cli import main

if __name__ == "__main__":
    main()
