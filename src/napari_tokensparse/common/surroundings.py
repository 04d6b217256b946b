"""What other libraries expect of a machine, and a container may not have."""

from __future__ import annotations

import getpass
import logging
import os


def name_account() -> None:
    """Give a user id without an account a name, for MONAI and torch ask for one on import.

    Containers often run under such an id. Where there is a name nothing is changed.
    """
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):  # by system and version of Python
        user = getattr(os, "getuid", lambda: "unknown")()
        os.environ["LOGNAME"] = f"user-{user}"


def quiet_libraries() -> None:
    """Keep off stderr what libraries say of their own caches, in a home that is read-only."""
    for name in ("matplotlib", "fontTools", "pooch"):
        logging.getLogger(name).setLevel(logging.ERROR)
