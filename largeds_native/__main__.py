"""`python -m largeds_native` is the command `largeds`."""

from largeds_native.cli import main

if __name__ == "__main__":
    main()
