"""`python -m benchmarks NAME…` runs benchmarks and writes their reports; without a name, all of
them. A benchmark is a file beside this one with a function `run() -> Report`."""

from __future__ import annotations

import argparse
import importlib
import re
import time
from pathlib import Path

from benchmarks.report import write_report


def benchmark_names() -> list[str]:
    """Found by reading, since importing all of them would take seconds."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [
        file.stem
        for file in files
        if re.search(r"^def run\(\) -> Report:", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def main() -> None:
    names = benchmark_names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"one of: {', '.join(names)}")
    chosen = parser.parse_args().name or names
    for name in chosen:
        if name not in names:
            parser.error(f"there is no benchmark “{name}”; there are: {', '.join(names)}")
    for name in chosen:
        start = time.perf_counter()
        report = importlib.import_module(f"benchmarks.{name}").run()
        path = write_report(name, report, time.perf_counter() - start)
        missed = [row for row in report.rows if row.holds is False]
        print(f"{name}: {len(report.rows)} values, {len(missed)} miss their target; {path}")


if __name__ == "__main__":
    main()
