"""What other libraries expect of a machine, and a container may not have."""

from __future__ import annotations

import getpass
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SPINS = "10000"


def name_account() -> None:
    """Give a user id without an account a name, for MONAI and torch ask for one on import.

    Containers often run under such an id. Where there is a name nothing is changed.
    """
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):  # by system and version of Python
        user = getattr(os, "getuid", lambda: "unknown")()
        os.environ["LOGNAME"] = f"user-{user}"


def share_processors() -> None:
    """Let threads that wait for each other sleep after some 10 µs, for what torch is to compute.

    torch's threads wait for the last of them after each of their parts. On Linux they turn in
    circles for milliseconds meanwhile, and on a machine on which something else runs they so keep
    the one that they wait for from going on: a run of a second took 20 to 50. On a free machine
    this costs a few per cent. Who has set one of OpenMP's own variables has chosen.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _SPINS


def user_place(find: Callable[[], Path]) -> Path:
    """Return a place of platformdirs; where there is no home, one that nothing can lie below."""
    try:
        path = find()
    except RuntimeError:  # newer versions of platformdirs; older ones give "~"
        return Path(os.devnull)
    return path if path.is_absolute() else Path(os.devnull)


def quiet_libraries() -> None:
    """Keep off stderr what libraries say of their own caches, in a home that is read-only."""
    for name in ("matplotlib", "fontTools", "pooch"):
        logging.getLogger(name).setLevel(logging.ERROR)
