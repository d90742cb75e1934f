"""The notebook in examples runs from its first cell to its last on the real MNIST."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    if not (DATA / "MNIST" / "raw").is_dir():
        pytest.skip(f"the real MNIST is not at {DATA / 'MNIST'}")
    monkeypatch.setenv("REPORT_DATA", str(DATA))
    monkeypatch.setenv("REPORT_RESULTS", str(tmp_path))
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    assert len(notebook.cells) == 12
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = str(notebook.cells[3].outputs[0]["data"]["text/html"])
    assert "notebook" in shown
    assert "ReLU" in shown
