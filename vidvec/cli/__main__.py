"""``python -m vidvec.cli``: the same as ``vidvec``."""

from vidvec.cli import main

if __name__ == "__main__":
    main()
