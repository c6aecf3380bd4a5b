"""Speed of this package side by side with Captum and torch: `python -m benchmarks --help`."""

import argparse
import contextlib
import importlib.metadata
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import deconvnet, occlusion, search, training
from benchmarks.result import Result, table
from zfrepro import device, records

BENCHMARKS = {
    "norm": training.norm, "projections": deconvnet.projections, "figure2": deconvnet.figure2,
    "units": deconvnet.units, "occlusion": occlusion.squares, "training": training.step,
    "search": search.search, "diorama": search.drawing, "absolute": training.absolute,
}  # fmt: skip
ABOUT = """\
Measure this package side by side with Captum and torch, on the CPU or on a GPU.

Both sides run in this process, in turn, on the same inputs and threads; times are medians of the
repeats and those of one item (a projection, a step, an image). Each comparison first checks that
both sides give the same result. Ratios carry over between machines better than times; on a busy
machine neither is worth much.

"""
EXIT = "Exit code: 0 if every check passed, 1 if not; a missed goal is shown and is no failure."


def parser() -> argparse.ArgumentParser:
    parts = "\n".join(
        f"{name:12} {run.__doc__.splitlines()[0]}" for name, run in BENCHMARKS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=ABOUT + parts, epilog=EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--only", metavar="NAME", choices=list(BENCHMARKS), help="one part")
    parser.add_argument("--quick", action="store_true", help="all checks, few images and repeats")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda: in under three minutes")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results as a record")
    return parser


def record(results: list[Result], command: str, seconds: float, where: torch.device) -> dict:
    """Return the results with hardware and versions."""
    origin = records.provenance(command)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # not every part needs it
        origin["versions"] |= {"captum": importlib.metadata.version("captum")}
    rows = [asdict(r) | {"correct": r.correct, "reached": r.reached} for r in results]
    described = {"device": device.describe(where), "seconds": seconds, "results": rows}
    return {"kind": "benchmark", **origin, **described}


def main(arguments: list[str] | None = None) -> int:
    """Run the comparisons, print the table; return 1 if a check failed."""
    options = parser().parse_args(arguments)
    if options.json and options.json.is_dir():  # told before minutes of work
        parser().error(f"--json {options.json}: is a folder; name a file")
    where = device.pick(options.device)
    began = time.perf_counter()
    results: list[Result] = []
    for name in [options.only] if options.only else BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results += BENCHMARKS[name](options.quick, where)
    seconds = time.perf_counter() - began
    print(
        f"{table(results)}\n\n{device.describe(where)}, torch {torch.__version__}, {seconds:.0f} s"
    )
    if options.quick:
        print("--quick: one repeat on few images; the checks count, the times do not.")
    if options.json:
        words = sys.argv[1:] if arguments is None else arguments
        command = " ".join(["python -m benchmarks", *words])
        records.write_json(options.json, record(results, command, seconds, where))
    failed = [(r.name, check) for r in results for check in r.checks if not check.passed]
    for name, check in failed:
        print(
            f"WRONG: {name}: {check.what} differ by {check.error:.1e}, allowed {check.bound:.0e}",
            file=sys.stderr,
        )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
