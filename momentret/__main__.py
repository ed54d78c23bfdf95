"""`python -m momentret` is the `momentret` command."""

from momentret.cli import main

if __name__ == "__main__":
    main()
