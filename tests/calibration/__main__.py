"""Re-run the calibration tables: `python -m tests.calibration --help`."""

import argparse
import sys
import time

from tests.calibration.rules import load
from tests.calibration.tables import TABLES, Size, rules
from tests.calibration.worlds import WORLDS

_EPILOG = """
A rule of your own: --decide package.module:factory. The factory is called once per simulated year
and returns a function that is called once per week, in order, with keyword arguments

    cost[n, M]     USD of all attempts            quality[n, M]  0..1
    ok[n, M]       successful                     latency[n, M]  seconds
    cluster[n]     conversation numbers           names          M model names
    primary        one of the names               scored[n, M]   only if it takes it

and returns the names it recommends instead of the primary (none, one or several). `rules.Scan` in
this folder is an example: python -m tests.calibration rules --decide tests.calibration.rules:Scan
"""


def main(arguments: list[str] | None = None) -> int:
    """Print the chosen tables as Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.calibration",
        description="Measure how often SCAN, or a rule of your own, errs in worlds whose truth is "
        "known exactly.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)} (all)")
    parser.add_argument("--years", type=int, default=4000, help="years per null world (4000)")
    parser.add_argument("--power-years", type=int, default=400, help="years of the others (400)")
    parser.add_argument("--n", default="50,100,200", help="prompts a week (50,100,200)")
    parser.add_argument("--worlds", default="", help="only these, comma-separated")
    parser.add_argument("--seed", type=int, default=1, help="seed of every table (1)")
    parser.add_argument("--decide", metavar="MODULE:FACTORY", help="a rule of your own to compare")
    parser.add_argument("--list", action="store_true", help="list the worlds and stop")
    options = parser.parse_args(arguments)
    if options.list:
        for world in WORLDS.values():
            print(f"{world.name:24} {world.says}")
        return 0
    worlds = tuple(name for name in options.worlds.split(",") if name)
    unknown = [*(set(worlds) - set(WORLDS)), *(set(options.tables) - set(TABLES))]
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    size = Size(
        years=options.years,
        power_years=options.power_years,
        pairs=tuple(int(n) for n in options.n.split(",")),
        seed=options.seed,
        worlds=worlds,
    )
    chosen = options.tables or (["rules"] if options.decide else list(TABLES))
    for name in chosen:
        start = time.monotonic()
        if name == "rules" and options.decide:
            table = rules(size, load(options.decide), options.decide)
        else:
            table = TABLES[name](size)
        print(table.markdown(), flush=True)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
