"""`python -m realtime_ser`."""

from realtime_ser.cli import main

if __name__ == "__main__":  # worker processes import this module again
    main()
