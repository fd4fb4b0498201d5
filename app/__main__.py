"""The program's entry: `switchwise` and `python -m app`."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run one command and exit with its code."""
    from app.cli.commands import build_app
    from app.domain.errors import SwitchwiseError

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` and its like stay obeyed
            signal.signal(number, _end)
    try:
        build_app()(prog_name="switchwise")
    except SwitchwiseError as error:
        sys.stderr.write(f"{_told(error)}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output went away, e.g. `switchwise report | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - a traceback would quote what was at hand: texts, keys
        from app.cli.logs import where_it_broke

        sys.stderr.write("switchwise: a bug, told without the values that were at hand:\n")
        sys.stderr.write("".join(f"  {line}\n" for line in where_it_broke(error)))
        sys.exit(1)


def _end(number: int, _: FrameType | None) -> None:
    """Leave as after an exception, so that processes begun here are ended too."""
    sys.exit(128 + number)


def _told(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return "\n".join(f"switchwise: {line}" for line in lines)


if __name__ == "__main__":
    main()
