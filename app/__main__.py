"""The program's entry: `switchwise` and `python -m app`."""

import gc
import os
import signal
import sys
from types import FrameType

#: A Run makes objects by the million and hardly a cycle among them: with the interpreter's own
#: thresholds, looking for some takes a tenth of its CPU.
_GC_THRESHOLDS = (50_000, 20, 20)


def main() -> None:
    """Run one command and exit with its code."""
    _be_frugal()
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


def _be_frugal() -> None:
    """Settle what must be settled before anything large is imported.

    OpenBLAS takes a thread per core by itself, which then spin while they wait for each other: our
    matrices gain no time by them and cost twice the CPU.
    """
    gc.set_threshold(*_GC_THRESHOLDS)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251 - for numpy, not for us


def _end(number: int, _: FrameType | None) -> None:
    """Leave as after an exception, so that processes begun here are ended too."""
    sys.exit(128 + number)


def _told(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return "\n".join(f"switchwise: {line}" for line in lines)


if __name__ == "__main__":
    main()
