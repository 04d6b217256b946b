import platform
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from napari_tokensparse.data.volume import Volume
from napari_tokensparse.engine import allocation
from napari_tokensparse.engine.allocation import kept_memory
from napari_tokensparse.engine.infer import segmenting
from napari_tokensparse.model.scd import SCD

resource = pytest.importorskip("resource", reason="no page faults to count")
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
MIB = 2**18  # float32 in a MiB


def faults_of_maps(times: int = 5) -> int:
    """Page faults of making and dropping three maps of 48 MiB, the first time apart."""
    before = 0
    for round_ in range(times + 1):
        if round_ == 1:
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        maps = torch.ones(48 * MIB)
        maps = maps * 2 + 1
        del maps
    return int(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)


def resident_mib() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


@glibc
def test_maps_take_memory_that_the_process_has() -> None:
    usual = faults_of_maps()
    with kept_memory():
        kept = faults_of_maps()
    assert usual > 5 * 48 * 2**20 / resource.getpagesize()  # of the ten maps, half at least
    assert kept < usual / 10
    assert faults_of_maps() > usual / 2


@glibc
def test_the_last_to_leave_gives_the_memory_back() -> None:
    with kept_memory():
        with kept_memory():
            faults_of_maps()
        held = resident_mib()
        assert faults_of_maps() < 48 * 256
    assert resident_mib() < held - 90


def test_threads_may_come_and_go() -> None:
    def hold(barrier: threading.Barrier) -> None:
        with kept_memory():
            barrier.wait()

    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, [barrier] * 4))
    if platform.libc_ver()[0] == "glibc":
        assert faults_of_maps() > 5 * 48 * 256


def test_elsewhere_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "_is_glibc", lambda: False)
    monkeypatch.setattr("ctypes.CDLL", None)
    with kept_memory():
        pass


@glibc
def test_a_run_keeps_memory_until_it_ends_or_is_left(make_model: Callable[..., SCD]) -> None:
    model = make_model()
    volume = Volume(np.ones((1, 40, 40, 40), np.float32), np.eye(4), "ones")
    for leave in (False, True):
        run = segmenting(volume, model)
        assert isinstance(run, Generator)
        before = allocation._holders
        next(run)
        assert allocation._holders == before + 1
        if leave:
            run.close()
        else:
            list(run)
        assert allocation._holders == before
