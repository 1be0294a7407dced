"""`python -m realtime_ser`, and the installed `realtime-ser`."""

import signal


def main() -> None:
    """Entry point; see `cli.main`. Until that takes over, Ctrl-C just ends the program: it falls into imports."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from realtime_ser.cli import main as run

    run()


if __name__ == "__main__":  # worker processes import this module again
    main()
