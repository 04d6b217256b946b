import json
import platform
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_tokensparse.compute import allocation
from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.infer import segmenting
from napari_tokensparse.segmenting.options import options_for
from napari_tokensparse.volumes.volume import Volume

resource = pytest.importorskip("resource", reason="no page faults to count")
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
COUNTED = """
import json, resource
import torch
from napari_tokensparse.compute.allocation import kept_memory

def faults(times=8):
    counted = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        maps = torch.ones(48 * 2**18)
        maps = maps * 2 + 1
        del maps
        counted.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
    return counted

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1])

torch.set_num_threads(1)
usual = faults()
with kept_memory():
    with kept_memory():
        kept = faults()
    still_kept, held = faults(), resident()
given_back = held - resident()
print(json.dumps([usual, kept, still_kept, given_back, faults()]))
"""


@glibc
def test_maps_take_memory_that_the_process_has_until_the_last_run_ends(
    run_python: Callable[..., Any], tmp_path: Path
) -> None:
    pages = 48 * 2**20 / resource.getpagesize()  # of a map
    # A process of its own: what others left in this one's heap would stand in the way.
    (tmp_path / "counted.py").write_text(COUNTED)
    counted = run_python(tmp_path / "counted.py", cwd=tmp_path)
    usual, kept, still_kept, given_back, after = json.loads(counted.stdout)
    assert max(usual) > 0.9 * pages  # of three maps, one at least
    # The heap may have to grow a few times before all is kept.
    assert min(kept) < pages / 20 and min(still_kept) < pages / 20
    assert given_back > 2 * pages
    assert max(after) > 0.9 * pages  # the first at least; what is free within the heap is reused


def test_threads_may_come_and_go() -> None:
    def hold(barrier: threading.Barrier) -> None:
        with kept_memory():
            barrier.wait()

    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, [barrier] * 4))
    assert allocation._holders == 0


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
        run = segmenting(volume, model, options_for(model))
        assert isinstance(run, Generator)
        before = allocation._holders
        next(run)
        assert allocation._holders == before + 1
        if leave:
            run.close()
        else:
            list(run)
        assert allocation._holders == before
