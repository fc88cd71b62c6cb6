"""`python -m metainf` is the command `metainf`."""

from metainf.cli import main

if __name__ == "__main__":
    main()
