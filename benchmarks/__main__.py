"""Speed of this package side by side with Captum and torch: `python -m benchmarks --help`."""

import argparse
import contextlib
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import absolute, contrast, drawing, figure2, growth, occlusion, projections, search, training_step
from benchmarks.result import Result, profiles, table
from zfrepro import device, records

BENCHMARKS: dict[str, Callable[[bool], Iterator[Result]]] = {
    "norm": contrast.run,
    "projections": projections.run,
    "figure2": figure2.run,
    "occlusion": occlusion.run,
    "training": training_step.run,
    "search": search.run,
    "diorama": drawing.run,
    "growth": growth.run,
    "absolute": absolute.run,
}

ABOUT = """\
Measure this package side by side with Captum and torch, on the CPU; where there is a GPU, training on it as well.

Both sides run in this process, in turn, on the same inputs and threads; times are medians of the repeats and those of
one item (a projection, a step, an image). Each comparison first checks that both sides give the same result.
Ratios carry over between machines better than times; on a busy machine neither is worth much.
"""

EXAMPLES = """\
norm         contrast norm, forward and backward, against F.local_response_norm
projections  deconvnet.project_crops and deconvnet.project against captum.attr.NeuronDeconvolution, conv1 to conv5 at 224 px
figure2      the whole of Fig. 2 in one call against a loop with captum and hooks, extrapolated to 2,000 images
occlusion    a grey square over 224 px in single precision and bf16 against captum.attr.Occlusion
training     a training step at 128 px against a plain fp32 loop with torch's response norm
search       the top-9 search of the gallery against the forward pass alone, 128 px
diorama      pictures drawn in a second, 128 px
growth       time of search, projections and occlusion as images, maps and positions grow; memory up to 50,000 images
absolute     training at the paper's size, on a GPU if there is one: images/s, TFLOP/s, share of the matmul rate

examples:
  make bench                                     everything, some minutes on two cores
  python -m benchmarks --only projections        one part
  python -m benchmarks --quick                   all checks, with times of one repeat on few images
  OMP_NUM_THREADS=1 python -m benchmarks         on one core
  python -m benchmarks --json bench.json         also write a record with hardware and versions

exit code: 0 if every check passed, 1 if not; a missed goal is shown and is no failure.
"""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks", description=ABOUT, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    found.add_argument("--only", metavar="NAME", choices=list(BENCHMARKS), help=f"one of {', '.join(BENCHMARKS)}")
    found.add_argument("--quick", action="store_true", help="one repeat on few images: the checks, not the speeds")
    found.add_argument("--json", metavar="FILE", type=Path, help="write the results as a record")
    return found


def record(results: list[Result], command: str, seconds: float, where: torch.device) -> dict:
    """The results with hardware and versions."""
    origin = records.provenance(command)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # not every part compares with it
        origin["versions"] |= {"captum": importlib.metadata.version("captum")}
    rows = [asdict(r) | {"correct": r.correct, "reached": r.reached} for r in results]
    return {"kind": "benchmark", **origin, "device": device.describe(where), "seconds": seconds, "results": rows}


def main(arguments: list[str] | None = None) -> int:
    """Run the comparisons, print the table; 1 if a check failed."""
    options = parser().parse_args(arguments)
    began = time.perf_counter()
    results: list[Result] = []
    for name in [options.only] if options.only else BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for result in BENCHMARKS[name](options.quick):
            print(f"  {result.name}: {result.ratio:.3g} {result.unit}", file=sys.stderr, flush=True)
            results.append(result)
    where = device.pick() if options.only == "absolute" else torch.device("cpu")
    print(f"\n{device.describe(where)}, torch {torch.__version__}")
    if options.quick:
        print("--quick: one repeat on few images; the checks count, the times do not.")
    print(f"\n{table(results)}\n\n{profiles(results)}\n\n{time.perf_counter() - began:.0f} s")
    if options.json:
        given = sys.argv[1:] if arguments is None else arguments
        command, seconds = " ".join(["python -m benchmarks", *given]), time.perf_counter() - began
        records.write_json(options.json, record(results, command, seconds, where))
    wrong = [r.name for r in results if not r.correct]
    for name in wrong:
        print(f"WRONG: {name}: the two sides differ by more than is allowed", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
