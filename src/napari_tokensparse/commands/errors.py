"""What a command says where it cannot go on: one line, and a code."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from napari_tokensparse.common.files import WriteError
from napari_tokensparse.common.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stopped(BaseException):
    """A signal asked the command to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _signals_raised() -> Iterator[None]:
    """Raise `Stopped` where the work is when a signal comes; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where Python handles no signals
        return

    def stop(number: int, _frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def plain_errors(debug: bool) -> Iterator[None]:
    """Turn what a user can mend into one line on stderr and exit code 1.

    So it does with SIGINT and SIGTERM, at exit code 130 or 143.
    """
    try:
        with _signals_raised():
            yield
    except Stopped as stop:
        name = signal.Signals(stop.number).name
        typer.echo(f"tokensparse: stopped ({name}); no half-written file is left", err=True)
        raise typer.Exit(128 + stop.number) from None
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        said = None if debug else _shortage(error) or _said(error)
        if said is None:
            raise
        typer.echo(f"tokensparse: {said}", err=True)
        raise typer.Exit(1) from None


def _shortage(error: Exception) -> str | None:
    """Say that memory ran out; typer's own errors and those of `SCD` are none."""
    if isinstance(error, ValueError) or "torch" not in sys.modules:
        is_plain = not isinstance(error, MemoryError)
        return None if is_plain else "memory ran out; close other programs"
    from napari_tokensparse.compute.shortage import shortage_line

    return shortage_line(error)


def _said(error: Exception) -> str | None:
    """Say in a line what a user can mend; None of an error that is ours."""
    from pydantic import ValidationError

    from napari_tokensparse.common.untrusted import one_line

    if not isinstance(error, ValueError | OSError):
        return None
    if isinstance(error, BrokenPipeError):  # whoever read the output has seen enough, as `head` has
        return None
    if isinstance(error, ValidationError):
        said = one_line(error)
    elif isinstance(error, OSError) and error.filename and not isinstance(error, WriteError):
        reason = (error.strerror or type(error).__name__).lower()
        said = f"{error.filename}: {reason}; check the path, and whether you may use it"
    else:
        said = str(error)
    return "\n".join(map(printable, said.splitlines()))
