"""Times reluexp and its peers on the same studies, alternating, and prints the ratios with their spread.

python benchmarks/compare.py [--rounds 3] [--study digits_64 …] [--peer plain …] [--root FOLDER_OF_MNIST]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from studies import STUDIES, Study

_CHILD = "import json, sys; sys.path.insert(0, sys.argv[1]); from compare import child; child(*sys.argv[2:])"


def child(program: str, study: str, root: str) -> None:
    """In a fresh process: prints the seconds of one program on one study as JSON."""
    if program == "reluexp":
        print(json.dumps(_reluexp(STUDIES[study], root)))
        return
    from peers import PEERS

    data = STUDIES[study].data(root)
    print(json.dumps({"whole": PEERS[program](STUDIES[study], data, root)}))


def _reluexp(study: Study, root: str) -> dict[str, float]:
    """Seconds from the call to the end, those from the first stack's start to the last one's end, and by phase."""
    from reluexp.engine import Resources
    from reluexp.runner import run_loaded

    marks: list[float] = []
    loaded = study.config(root)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()

        def listen(event: dict[str, Any]) -> None:
            if event["event"] in ("plan", "done"):
                marks.append(time.perf_counter())

        found = run_loaded(loaded, Path(folder), Resources.model_validate({"workers": 2}), listener=listen)
        end = time.perf_counter()
        phases = found.timing.groupby("phase")["seconds"].sum().to_dict()
    return {"start to end": end - start, "whole": marks[-1] - marks[0], **phases}


def _timed(program: str, study: str, root: str) -> dict[str, float]:
    words = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), program, study, root]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Alternates the programs and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--study", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--peer", nargs="*", default=["plain", "tutorial", "thorough", "lightning", "skorch"])
    parser.add_argument("--root", default="data")
    given = parser.parse_args()
    import torch

    print(f"{_processor()}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}\n")
    print("| study | program | seconds, median | against reluexp, least to most |")
    print("| --- | --- | ---: | ---: |")
    for study in given.study:
        peers = [own for own in given.peer if own != "tutorial" or STUDIES[study].dataset["name"] == "mnist"]
        times: dict[str, list[dict[str, float]]] = {program: [] for program in ("reluexp", *peers)}
        for _ in range(given.rounds):
            for program, found in times.items():
                found.append(_timed(program, study, given.root))
        own = [one["whole"] for one in times["reluexp"]]
        for program, found in times.items():
            whole = sorted(one["whole"] for one in found)
            ratios = sorted(one["whole"] / mine for one, mine in zip(found, own, strict=True))
            shown = "" if program == "reluexp" else f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
            print(f"| {study} | {program} | {whole[len(whole) // 2]:.1f} | {shown} |", flush=True)
        last = times["reluexp"][-1]
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in last.items() if name != "whole")
        share = last.get("measure", 0.0) / last["train"]
        print(f"| | | | {phases} s; measuring / training {100 * share:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
