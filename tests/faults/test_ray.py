"""A Ray cluster as a user starts it: a head and two workers, one of them killed half-way."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Study, family

import reluexp

pytestmark = pytest.mark.full_form
pytest.importorskip("ray", reason="Ray is not installed: pip install 'reluexp[ray]'")

TEXT = (
    "study: s\ndataset: {name: digits, train_size: 300, test_size: 60}\narchitecture: {width: [12, 12]}\n"
    "train: {epochs: 10}\nprobe: {size: 64}\nseeds: 13\ngrid: {activation: [relu, elu, tanh, prelu]}\n"
)
_RUN = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], stack=1, engine='ray', address='{}')"


class Cluster:
    """Nodes of a Ray cluster on this machine, each a process group of its own."""

    def __init__(self, folder: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder, self.nodes = folder, list[subprocess.Popen[bytes]]()
        port = self.address.rpartition(":")[2]
        self.start("--head", f"--port={port}", "--num-cpus=0", f"--temp-dir={folder}", "--include-dashboard=false")

    def start(self, *words: str) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        environment = {**os.environ, "RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "10"}
        self.nodes.append(
            subprocess.Popen(
                [ray, "start", "--block", "--disable-usage-stats", "--object-store-memory=80000000", *words],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        )

    def join(self) -> None:
        """Adds a worker and waits for it: of two that start at once on one machine, one may take the other's ports."""
        self.start(f"--address={self.address}", "--num-cpus=1")
        until = time.monotonic() + 60
        while not any("raylet/raylet" in _command(pid) for pid in family(self.nodes[-1].pid)):
            assert time.monotonic() < until
            time.sleep(0.2)
        time.sleep(3)

    def kill(self, number: int) -> None:
        """As when a machine loses its power."""
        for pid in [self.nodes[number].pid, *family(self.nodes[number].pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.nodes[number].wait()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8")
    except OSError:  # it has ended meanwhile
        return ""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    # A token of its own: the cluster answers to nobody else.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the paths of its sockets must be short
    cluster = Cluster(folder)
    time.sleep(6)
    cluster.join()
    cluster.join()
    yield cluster
    for number in range(len(cluster.nodes)):
        cluster.kill(number)
    shutil.rmtree(folder, ignore_errors=True)


def test_one_of_two_workers_killed_half_way(cluster: Cluster, tmp_path: Path, figure: Callable[[str], None]) -> None:
    study = Study(tmp_path, TEXT)
    process = study.start("ray", code=_RUN.format(cluster.address))
    done = 0
    until = time.monotonic() + 240
    while done < 15:
        assert process.poll() is None, (tmp_path / "ray.log").read_text()[-3000:]
        assert time.monotonic() < until
        done = len(list(study.results("ray").glob("stacks/*/stack.json")))
        time.sleep(0.2)
    cluster.kill(2)
    assert process.wait(300) == 0, (tmp_path / "ray.log").read_text()[-3000:]
    study.run("local")
    study.assert_same("local", "ray")
    stacks = len(reluexp.load(study.results("ray")).standing.records)
    assert stacks == 52
    figure(f"Ray: a head and two workers, {stacks} stacks, one worker killed after {done}: tables equal to the local "
           "engine's bit for bit")  # fmt: skip


def test_without_a_shared_folder_results_come_back_to_the_driver(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(tmp_path, TEXT.replace("seeds: 13", "seeds: 2").replace("epochs: 10", "epochs: 2"))
    apart = "import reluexp.engine.ray as ray; ray._shared = lambda job, token: False\n"
    (tmp_path / "often" / "sitecustomize.py").write_text(apart)
    cluster.kill(1)
    cluster.kill(2)
    monkeypatch.setenv("PYTHONPATH", study.environment["PYTHONPATH"])
    cluster.join()
    assert study.start("ray", code=_RUN.format(cluster.address)).wait(200) == 0, (tmp_path / "ray.log").read_text()[
        -3000:
    ]
    study.run("local")
    study.assert_same("local", "ray")
