"""Disks that are full and signals: the old file stays, no other is left, one line says it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import torch

from napari_tokensparse.common.files import WriteError
from napari_tokensparse.common.tables import write_csv, write_json
from napari_tokensparse.model.bundle import write_bundle
from napari_tokensparse.outputs.classfiles import write_class_files
from napari_tokensparse.outputs.montage import save_montage
from napari_tokensparse.outputs.receipts import FinishedRun, InputScan, receipt_of, write_receipt
from napari_tokensparse.outputs.regionfiles import write_regions
from napari_tokensparse.outputs.writing import write_volume
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.options import Options
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.training.state import write as write_state
from napari_tokensparse.volumes.volume import Volume, VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Write = Callable[[Path], object]

pytestmark = pytest.mark.skipif("sys.platform == 'win32'", reason="signals, and limits of files")

NOISE = np.random.default_rng(0).integers(1, 200, (40, 40, 40)).astype(np.int16)
LABELS = NOISE.astype(np.uint8)


@contextmanager
def no_space_after(size: int) -> Iterator[None]:
    """Let the kernel refuse every byte past so many of a file, as a full disk does."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def below(folder: Path) -> dict[str, bytes]:
    """Read every file in a folder and in those below it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Segment noise with a small network; return a function that gives each writer by name."""
    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.model.presets import preset
    from napari_tokensparse.model.scd import SCD

    classes = tuple(
        LabelClass(value=n, name=f"part {n} " + "x" * 150, color=(n, 0, 0)) for n in range(1, 3)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        info = ModelInfo(name="nano", channels=("a",), classes=classes, exclusive=False)
        model = SCD(preset("nano", out_channels=2), info).eval()
    volume = Volume(NOISE[None], np.eye(4), "noise")
    return volume, model, segment(volume, model)


def writers(written: Any) -> dict[str, tuple[str, Write]]:
    """Return by kind: the file's name, and what writes it."""
    volume, model, result = written
    info, options = model.info, Options(model="nano", keep_ratio=result.stats.keep_ratios)
    receipt = receipt_of(
        FinishedRun(volume, model, options, result), [InputScan(name="noise", sha256=None)], None
    )
    table = [[n, "name"] for n in range(500)]
    weights = {"a": torch.zeros(5000)}
    metadata = {"version": "1", "task": "t", "description": "", "authors": "", "copyright": ""}
    wide = (("x" * 500,) * 9,) * 2
    return {
        "nii": ("out.nii", lambda p: write_volume(p, LABELS, volume)),
        "nii.gz": ("out.nii.gz", lambda p: write_volume(p, LABELS, volume)),
        "nrrd": ("out.nrrd", lambda p: write_volume(p, LABELS, volume)),
        "regions": ("", lambda p: write_regions(p, result, volume, info)),
        "class files": ("", lambda p: write_class_files(p / "out.nii.gz", info)),
        "csv": ("out.csv", lambda p: write_csv(p, ("a", "b"), table)),
        "json": ("out.json", lambda p: write_json(p, table)),
        "receipt": ("out.receipt.json", lambda p: write_receipt(p, receipt)),
        "montage": ("out.png", lambda p: save_montage(p, volume, result, info)),
        "checkpoint": ("state.pt", lambda p: write_state(p, weights)),
        "run.yaml": ("run.yaml", lambda p: RunConfig(output=p, overrides={"a": wide}).write(p)),
        "model folder": ("", lambda p: write_bundle(p, model, metadata, "# card\n" * 100)),
    }


KINDS = (
    *("nii", "nii.gz", "nrrd", "regions", "class files", "csv", "json", "receipt", "montage"),
    *("checkpoint", "run.yaml", "model folder"),
)


def refuse(write: Write, folder: Path, name: str, share: float) -> None:
    """Write once more where only so large a share of the largest file fits."""
    before = below(folder)
    size = int(share * max(map(len, before.values())))
    with no_space_after(size), pytest.raises((WriteError, VolumeError)) as raised:
        write(folder / name)
    assert below(folder) == before
    said = str(raised.value)
    assert re.fullmatch(
        r"\S+: cannot be written \(File too large\); free some space, or choose another place", said
    )
    assert any(each in said for each in before)


@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("kind", KINDS)
def test_where_a_disk_is_full_the_old_files_stay_and_no_others_are_left(
    written: Any, tmp_path: Path, kind: str, share: float
) -> None:
    name, write = writers(written)[kind]
    write(tmp_path / name)
    refuse(write, tmp_path, name, share)


@pytest.mark.deep
def test_wherever_in_a_file_a_disk_is_full_the_old_files_stay(
    written: Any, tmp_path: Path, figures: Callable[[str, dict[str, Any]], None]
) -> None:
    shares = [n / 20 for n in range(20)]
    for kind, (name, write) in writers(written).items():
        folder = tmp_path / kind.replace(" ", "-")
        folder.mkdir()
        write(folder / name)
        for share in shares:
            refuse(write, folder, name, share)
    figures("disks", {"disks": dict.fromkeys(KINDS, len(shares))})


def test_a_checkpoint_that_fills_a_real_disk_leaves_the_last_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted: needs root, on Linux")
    try:
        write_state(disk / "state.pt", {"a": torch.zeros(40_000)})
        before = below(disk)
        with pytest.raises(WriteError) as raised:
            write_state(disk / "state.pt", {"a": torch.ones(40_000)})
        assert below(disk) == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert str(raised.value) == (
        f"{disk / 'state.pt'}: cannot be written (No space left on device); free some space, or "
        "choose another place"
    )


FULL = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from napari_tokensparse.cli import main
main()
"""


def test_the_command_says_in_one_line_that_the_disk_is_full(
    run_python: Callable[..., Any], write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    scan = tmp_path / "scan.nii.gz"
    write_volume(scan, NOISE, Volume(NOISE[None], np.eye(4), "scan"), labels=False)
    (tmp_path / "full.py").write_text(FULL)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/labels.nii").write_bytes(b"as it was")
    options = ("--model", write_nano(), "--backend", "plain", "-o", "out/labels.nii")
    options = (*options, "--overwrite")  # for what lies there was not written by us
    run = run_python(tmp_path / "full.py", "segment", scan, *options, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "tokensparse: out/labels.nii: cannot be written (File too large); free some space, or "
        "choose another place"
    )
    assert "Traceback" not in run.stderr
    assert below(tmp_path / "out") == {"labels.nii": b"as it was"}


def test_labels_whose_receipt_cannot_be_written_do_not_stay_in_the_way_of_the_next_run(
    run_python: Callable[..., Any], write_nano: Callable[..., Path], tmp_path: Path
) -> None:
    scan = tmp_path / "scan.nii.gz"
    write_volume(scan, NOISE[:8, :8, :8], Volume(NOISE[None, :8, :8, :8], np.eye(4), "scan"))
    full = FULL.replace("3000", "1500")
    (tmp_path / "full.py").write_text(full)
    (tmp_path / "out").mkdir()
    line = ("segment", scan, "--model", write_nano(), "--backend", "plain", "-o", "out/labels.nii")
    run = run_python(tmp_path / "full.py", *line, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "tokensparse: out/labels.receipt.json: cannot be written (File too large); free some "
        "space, or choose another place"
    )
    assert below(tmp_path / "out") == {}
    (tmp_path / "free.py").write_text(full.replace("1500", "100000"))
    assert run_python(tmp_path / "free.py", *line, cwd=tmp_path).returncode == 0


SIGNALLED = """
import json, os, pty, random, re, sys, time
number, mode, seed, *line = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    sys.argv = ["tokensparse", *line]
    from napari_tokensparse.cli import main
    main()
    os._exit(0)
said, sent = b"", False
wait = random.Random(int(seed)).uniform(0.0, 3.0)
while True:
    try:
        block = os.read(terminal, 4096)
    except OSError:
        break
    if not block:
        break
    said += block
    if not sent and re.search(rb" [1-9][0-9]*/[0-9]+", said):
        if mode == "random":
            time.sleep(wait)
        os.kill(pid, int(number))
        sent = True
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps([status, said.decode("utf-8", "replace")]))
"""


@pytest.fixture
def signalled(
    run_python: Callable[..., Any], write_nano: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Segment noise at a terminal, and send a signal once a window is done, or later."""
    pytest.importorskip("pty")
    noise = np.random.default_rng(0).integers(1, 200, (96, 96, 64)).astype(np.int16)
    scan = Volume(noise[None], np.eye(4), "scan")
    write_volume(tmp_path / "scan.nii.gz", noise, scan, labels=False)
    (tmp_path / "signalled.py").write_text(SIGNALLED)
    model = write_nano()

    def run(number: int, mode: str, seed: int = 0) -> tuple[int, str]:
        line = ("segment", tmp_path / "scan.nii.gz", "--model", model, "--backend", "plain")
        outputs = ("-o", "out/labels.nii.gz", "--tokens", "out/tokens", "--table", "out/t.csv")
        (tmp_path / "out").mkdir(exist_ok=True)
        script = (tmp_path / "signalled.py", int(number), mode, seed)
        ran = run_python(*script, *line, *outputs, cwd=tmp_path)
        status, said = json.loads(ran.stdout)
        return status, re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", said)

    return run


@pytest.mark.deep
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_in_the_middle_of_a_run_ends_it_with_one_line_and_no_file(
    signalled: Callable[..., tuple[int, str]], tmp_path: Path, name: str
) -> None:
    number = getattr(signal, name)
    status, said = signalled(number, "at once")
    assert status == 128 + number, said
    last = said.splitlines()[-1]
    assert last == f"tokensparse: stopped ({name}); no half-written file is left"
    assert "Traceback" not in said
    assert below(tmp_path / "out") == {}


@pytest.mark.deep
def test_signals_at_random_moments_leave_whole_files_or_none(
    signalled: Callable[..., tuple[int, str]],
    tmp_path: Path,
    figures: Callable[[str, dict[str, Any]], None],
) -> None:
    ended = {"SIGINT": 0, "SIGTERM": 0}
    for seed in range(40):
        name = ("SIGINT", "SIGTERM")[seed % 2]
        number = getattr(signal, name)
        status, said = signalled(number, "random", seed)
        assert status in (0, 128 + number, -number), said  # -number: it came as Python ended
        assert "Traceback" not in said
        ended[name] += 1
        for path in (tmp_path / "out").rglob("*"):
            assert not path.name.startswith(".")
            if path.name.endswith(".nii.gz"):
                assert nibabel.load(path).get_fdata().shape == (96, 96, 64)  # to its last byte
        shutil.rmtree(tmp_path / "out")
    figures("signals", {"signals": ended})
