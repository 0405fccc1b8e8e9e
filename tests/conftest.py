"""Fixtures for tests on real nnU-Net: a home of tiny data sets, shared by the session, and its variables per test."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tiny_nnunet import Home

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE),
    *sorted(str(folder) for folder in HERE.rglob("*") if folder.is_dir() and folder.name != "__pycache__"),
]
"""Helper modules are next to the tests; in import mode "importlib" pytest does not add their folders."""

os.environ.setdefault("nnUNet_def_n_proc", "1")  # nnU-Net reads it when it is imported
os.environ["MATPLOTLIBRC"] = str(HERE / "matplotlibrc")  # nnU-Net's progress.png in fewer pixels
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``pytest -n 2`` hands out whole files, because a file's tests share what they train."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files go first, so that several processes end at about the same time: slow tests, then real nnU-Net."""
    length: Counter[Path] = Counter()
    for item in items:
        real = {"home", "session_home"} & set(getattr(item, "fixturenames", ()))
        length[item.path] += 100 * bool(item.get_closest_marker("slow")) + bool(real)
    items.sort(key=lambda item: -length[item.path])


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The data sets, without the variables."""
    from tiny_nnunet import Home

    return Home(tmp_path_factory.mktemp("nnunet"))


@pytest.fixture(scope="session")
def brats2018_data() -> Path:
    """The real BraTS 2018 cases, from ``MMKD_TEST_DATA`` or ``../shared/data``."""
    home = os.environ.get("MMKD_TEST_DATA") or HERE.parent.parent / "shared" / "data"
    folder = Path(home) / "MICCAI_BraTS_2018_Data_Training"
    if not folder.is_dir():
        pytest.skip("no real BraTS 2018 cases here (set MMKD_TEST_DATA to the folder that has them)")
    return folder


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``nnUNet_raw``; the other folders are unset."""
    folder = tmp_path / "nnUNet_raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    for variable in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread and seeds: equalities hold on the CPU with the same number of threads."""
    import numpy as np
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def home(session_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Home:
    """Tiny data sets, nnU-Net's variables (results in ``tmp_path``), pools in this process."""
    from tiny_nnunet import inline_pools, set_variables

    set_variables(monkeypatch, session_home, tmp_path / "results")
    inline_pools(monkeypatch)
    return session_home


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings draw nothing: it takes longer than training here."""
    from nnunetv2.training.logging.nnunet_logger import LocalLogger

    from nnunetv2_mmkd.training.curve_log import CurveLog

    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda *_: None)
    monkeypatch.setattr(CurveLog, "draw", lambda _: None)
