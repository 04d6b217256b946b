"""A container without an account or a home."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from napari_tokensparse.common import settings
from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.common.surroundings import name_account, share_processors
from napari_tokensparse.model.folder import available_models, bundled_models_folder


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run under a user id that no file of accounts has, without a home."""
    pwd = pytest.importorskip("pwd", reason="Windows has no user ids")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")  # so that it is as it was afterwards, whoever sets it
        monkeypatch.delenv(name)
    monkeypatch.delenv("TOKENSPARSE_CACHE", raising=False)
    monkeypatch.delenv("NAPARI_CONFIG", raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("no_account")
def test_a_user_id_without_an_account_is_given_a_name() -> None:
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    name_account()
    assert getpass.getuser() == f"user-{os.getuid()}"


def test_a_name_that_there_is_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "jane")
    name_account()
    assert os.environ["LOGNAME"] == "jane"


@pytest.mark.usefixtures("no_account")
def test_without_a_home_nothing_is_kept_and_nothing_lands_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError):
        cache_folder("openvino").mkdir(parents=True)
    assert settings.current() == settings.Settings()
    assert all(folder.parent == bundled_models_folder() for folder in available_models().values())
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_may_not_be_looked_into_holds_no_settings_and_no_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setenv("NAPARI_CONFIG", "/root/napari.yaml")
    monkeypatch.setattr(Path, "is_file", refused)
    monkeypatch.setattr(Path, "iterdir", refused)
    assert settings.current() == settings.Settings()
    assert available_models() == {}


@pytest.mark.parametrize(
    ("chosen", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_waiting_threads_sleep_unless_someone_chose(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], spins: str | None
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is as it was afterwards
        monkeypatch.delenv(name)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    share_processors()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
