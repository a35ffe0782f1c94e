"""`python -m sos.broker` is `sos`."""

from sos.broker.cli import main

if __name__ == "__main__":
    main()
