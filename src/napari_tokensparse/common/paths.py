"""Paths in lists that may have been written on another system."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from napari_tokensparse.common.untrusted import PlainError


def path_here(text: str, folder: Path) -> str:
    r"""Return a path as it is written on this system; its slashes may be those of Windows.

    Parameters
    ----------
    text
        The path as the list has it.
    folder
        The list's, which the path is from unless it is absolute.

    Raises
    ------
    PlainError
        It names a drive or a server of Windows, and this is another system.

    Examples
    --------
    >>> path_here(r"images\scan.nii.gz", Path("data"))
    'images/scan.nii.gz'
    """
    if os.name == "nt" or (folder / text).exists():
        return text
    windows = PureWindowsPath(text)
    if windows.is_absolute():
        raise PlainError(
            f"{text}: is a path of Windows, and {windows.drive} is not on this system; give the "
            "path as it is here, or one from the list's own folder"
        )
    return windows.as_posix() if "\\" in text else text
