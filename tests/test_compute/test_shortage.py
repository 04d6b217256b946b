"""Memory that runs out in the middle of a run: less at once, then the disk, then the figures."""

import errno
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import typer
from monai.transforms.compose import Compose

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.compute.shortage import Shortage, free_mb, is_shortage, shortage_of
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.infer import SegmentError, segment
from napari_tokensparse.segmenting.inputgrid import InputGrid
from napari_tokensparse.segmenting.result import Segmentation
from napari_tokensparse.segmenting.run import WindowRun
from napari_tokensparse.segmenting.stitch import Rows, Stitcher
from napari_tokensparse.volumes.volume import Volume

MakeModel = Callable[..., SCD]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Make noise of 60 x 50 x 40 voxels: 18 windows of 32³."""
    noise = np.random.default_rng(0).normal(100, 20, (1, 60, 50, 40)).astype(np.float32)
    return Volume(noise, np.eye(4), "noise")


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> SCD:
    """Make a network for all these tests, which leave it as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_model()


@pytest.fixture(scope="module")
def whole(volume: Volume, model: SCD) -> Segmentation:
    """Segment with memory enough."""
    return segment(volume, model)


def fail_at(monkeypatch: pytest.MonkeyPatch, calls: set[int] | None = None) -> list[int]:
    """Let the network run out of memory at these passes, or at all; the list counts the windows."""
    forward, windows = WindowRun._forward, []

    def failing(self: WindowRun, batch: torch.Tensor, numbers: Any) -> Any:
        windows.append(len(batch))
        if calls is None or len(windows) - 1 in calls:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 …")
        return forward(self, batch, numbers)

    monkeypatch.setattr(WindowRun, "_forward", failing)
    return windows


def alike(one: Segmentation, other: Segmentation) -> bool:
    return bool(
        (one.labels == other.labels).mean() >= 0.9999
        and np.array_equal(one.tokens.pruned_at, other.tokens.pruned_at)
    )


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (MemoryError("Unable to allocate 1.50 GiB for an array with shape (3,)"), 1610.612736),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), 20.97152),
        (RuntimeError("not enough memory: you tried to allocate 5000000 bytes."), 5),
        (RuntimeError("std::bad_alloc"), None),
    ],
)  # fmt: skip
def test_a_shortage_is_known_by_what_libraries_say(error: Exception, asked: float | None) -> None:
    def work() -> None:
        raise error

    assert is_shortage(error)
    lacking = shortage_of(work, CPU)
    assert lacking is not None
    assert lacking.asked_mb == (None if asked is None else pytest.approx(asked))
    assert lacking.free_mb == pytest.approx(free_mb(CPU), rel=0.2)


def test_other_errors_pass() -> None:
    def work() -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        shortage_of(work, CPU)
    assert shortage_of(lambda: None, CPU) is None


def test_figures_are_told_in_a_few_words() -> None:
    assert str(Shortage(1234.4, 56.0)) == "1,234 MB more were needed, 56 MB are free"
    assert str(Shortage(None, 56.0)) == "56 MB are free"


def test_what_failed_holds_nothing_any_more() -> None:
    class Large:
        pass

    held = []

    def work() -> None:
        large = Large()
        held.append(weakref.ref(large))
        raise MemoryError

    shortage_of(work, CPU)
    assert held[0]() is None


def test_a_shortage_at_any_window_halves_how_many_are_run_at_once(
    volume: Volume, model: SCD, whole: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whole.stats.windows == 18
    assert whole.stats.notes == ()
    for at in range(3):  # 18 windows are run 6 at a time
        with monkeypatch.context() as patch:
            windows = fail_at(patch, {at})
            result = segment(volume, model)
        assert windows == [6] * (at + 1) + [3] * (2 * (3 - at))
        assert result.stats.notes == ("memory ran out: 3 windows at once from there on",)
        assert alike(result, whole)
    assert segment(volume, model).labels.tobytes() == whole.labels.tobytes()


@pytest.mark.deep
def test_a_shortage_at_every_window_in_turn(
    volume: Volume,
    model: SCD,
    whole: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
    figures: Callable[[str, dict[str, Any]], None],
) -> None:
    monkeypatch.setattr("napari_tokensparse.segmenting.run.windows_at_once", lambda *_: 1)
    for at in range(18):
        with monkeypatch.context() as patch:
            fail_at(patch, {at})
            result = segment(volume, model)
            notes = ("memory ran out: windows were stitched on disk from there on",)
            assert result.stats.notes == notes
            assert alike(result, whole)
        with monkeypatch.context() as patch:
            fail_at(patch, {at, at + 1})
            with pytest.raises(SegmentError, match=f"ran out on cpu at window {at + 1} of 18 "):
                segment(volume, model)
        assert segment(volume, model).labels.tobytes() == whole.labels.tobytes()
    figures("shortage", {"windows": 2 * 18})


def test_when_single_windows_do_not_fit_they_are_stitched_on_disk(
    volume: Volume, model: SCD, whole: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = fail_at(monkeypatch, {0, 1, 2, 6})
    moved: list[bool] = []
    move = Stitcher.move_to_disk
    monkeypatch.setattr(
        Stitcher, "move_to_disk", lambda self: moved.append(move(self)) or moved[-1]
    )
    result = segment(volume, model)
    assert windows[:4] == [6, 3, 2, 1]
    assert result.stats.notes[-1] == "memory ran out: windows were stitched on disk from there on"
    assert len(result.stats.notes) == 4
    assert moved == [True]
    assert alike(result, whole)


def test_at_the_end_the_figures_are_told_and_the_next_run_works(
    volume: Volume, model: SCD, whole: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        windows = fail_at(patch)
        with pytest.raises(SegmentError) as raised:
            segment(volume, model)
    assert windows == [6, 3, 2, 1, 1]
    said = str(raised.value)
    assert said.startswith("noise: memory ran out on cpu at window 1 of 18 (2,147 MB more were ")
    assert said.count("\n") == 0
    assert segment(volume, model).labels.tobytes() == whole.labels.tobytes()


class OnGpu(WindowRun):
    """A run that takes its device for a GPU of which 512 MB are free, and computes on the CPU."""

    sizes: ClassVar[list[int]] = []
    short: ClassVar[set[int]] = set()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._device = torch.device("cuda:0")
        self.sizes.clear()

    def _network(self, windows: Any) -> Any:
        self.sizes.append(len(windows))
        if len(self.sizes) - 1 in self.short:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 …")
        self._device = CPU
        out = super()._network(windows)
        self._device = torch.device("cuda:0")
        return out


def test_a_gpu_goes_the_same_way_and_what_torch_keeps_there_is_given_back(
    volume: Volume, model: SCD, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr("napari_tokensparse.segmenting.infer.WindowRun", OnGpu)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (512_000_000, 1_000_000_000))
    whole = segment(volume, model)
    assert given_back == []

    monkeypatch.setattr(OnGpu, "short", {1})
    result = segment(volume, model)
    assert OnGpu.sizes == [6, 6, 3, 3, 3, 3]
    assert result.stats.notes == ("memory ran out: 3 windows at once from there on",)
    assert alike(result, whole)
    assert len(given_back) == 1

    monkeypatch.setattr(OnGpu, "short", set(range(10)))
    with pytest.raises(SegmentError) as raised:
        segment(volume, model)
    assert OnGpu.sizes == [6, 3, 2, 1]  # what is stitched lies in the memory of the machine
    assert len(given_back) == 5
    assert str(raised.value) == (
        "noise: memory ran out on cuda:0 at window 1 of 18 (2,147 MB more were needed, 512 MB are "
        "free); close other programs, or take a model of smaller windows, or another device"
    )
    monkeypatch.setattr(OnGpu, "short", set())
    assert segment(volume, model).labels.tobytes() == whole.labels.tobytes()


def test_a_full_disk_ends_in_the_same_line(
    volume: Volume, model: SCD, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    fail_at(monkeypatch)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(SegmentError, match="memory ran out on cpu at window 1 of 18"):
        segment(volume, model)


def test_rows_that_do_not_fit_are_labelled_a_few_at_a_time(
    volume: Volume, model: SCD, whole: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, lengths = InputGrid.add, []

    def failing(self: InputGrid, rows: Rows) -> None:
        lengths.append(len(rows))
        if len(rows) > 3:
            raise MemoryError("Unable to allocate 9.00 MiB for an array")
        add(self, rows)

    monkeypatch.setattr(InputGrid, "add", failing)
    result = segment(volume, model)
    assert max(lengths) > 3
    assert result.labels.tobytes() == whole.labels.tobytes()


LIMITED = """
import json, resource, sys
import numpy as np, psutil
from napari_tokensparse import segment
from napari_tokensparse.volumes.volume import Volume
from napari_tokensparse.segmenting.result import SegmentError
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

kind = LabelClass(value=1, name="one", color=(255, 0, 0))
model = SCD(preset("small"), ModelInfo(name="small", channels=("a",), classes=(kind,))).eval()
noise = np.random.default_rng(0).normal(size=(1, 64, 64, 80)).astype(np.float32)
volume = Volume(noise, np.eye(4), "noise")
whole = segment(volume, model, backend="plain")
for megabytes in map(int, sys.argv[1:]):
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + megabytes * 1_000_000, -1))
    try:
        said = segment(volume, model, backend="plain").stats.notes
    except SegmentError as error:
        said = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    again = segment(volume, model, backend="plain")
    print(json.dumps([megabytes, said, bool((again.labels == whole.labels).all())]))
"""


@pytest.mark.skipif("sys.platform != 'linux'", reason="sets ulimit -v")
def test_under_a_real_limit_a_run_ends_in_a_line_and_the_next_one_works(
    run_python: Callable[..., Any], tmp_path: Path
) -> None:
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    # What the first run left in the heap serves the second: how much that is, is the processor's.
    run = run_python(script, 40, 0, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    ends = [json.loads(line) for line in run.stdout.splitlines()]
    refused = [said for _, said, _ in ends if isinstance(said, str)]
    assert ends[-1][1] in refused
    assert all(works for *_, works in ends)
    for said in refused:
        # Where a run first asks for more than there is depends on what the heap holds, too.
        at_window = said.startswith("noise: memory ran out on cpu at window 1 of 2 (")
        assert at_window or said.startswith("noise: 64 x 64 x 80 voxels do not fit into memory (")
        assert "MB are free); close other programs" in said


@pytest.mark.deep
@pytest.mark.skipif("sys.platform != 'linux'", reason="sets ulimit -v")
def test_under_any_limit_a_run_ends_in_a_line_or_with_its_labels(
    run_python: Callable[..., Any],
    tmp_path: Path,
    figures: Callable[[str, dict[str, Any]], None],
) -> None:
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    run = run_python(script, *range(0, 400, 10), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    ends = [json.loads(line) for line in run.stdout.splitlines()]
    refused = [said for _, said, _ in ends if isinstance(said, str)]
    assert all(works for *_, works in ends)
    assert all("memory" in said and "MB are free" in said for said in refused)
    assert 0 < len(refused) < len(ends) == 40
    figures("limits", {"limits": len(ends), "refused": len(refused)})


def asked_too_much(kind: str) -> object:
    """Ask for more memory than there is, of what a command asks."""
    if kind == "numpy":
        return np.zeros(2**45)
    if kind == "torch":
        return torch.empty(2**58)
    if kind == "system":
        raise OSError(errno.ENOMEM, "Cannot allocate memory", "scan.nii")
    return Compose([lambda _: np.zeros(2**45)])(0)


@pytest.mark.parametrize("kind", ["numpy", "torch", "system", "monai"])
def test_a_command_says_in_one_line_that_memory_ran_out(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors(debug=False):
        asked_too_much(kind)
    assert ended.value.exit_code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tokensparse: memory ran out (") and "MB are free" in line
    assert line.endswith("; close other programs, or crop or split the scan")


def test_an_error_that_is_not_want_of_memory_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), plain_errors(debug=False):
        raise RuntimeError("shapes differ")
    with pytest.raises(MemoryError), plain_errors(debug=True):
        np.zeros(2**45)
