"""Work in a thread of its own, of which nothing is kept once it has ended."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from napari.qt.threading import GeneratorWorker, create_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    Steps = Generator[Any, None, Any]


def in_thread(
    work: Callable[..., Any],
    *arguments: Any,
    failed: Callable[[BaseException], object] | None = None,
) -> Worker:
    """Make a worker of a function or a generator, for the caller to start.

    Parameters
    ----------
    work, arguments
        What is called in the thread; it may touch no widget and no layer.
    failed
        What takes an error; without it the error is raised in the window's thread.
    """
    quiet = failed is not None
    worker: Worker = create_worker(work, *arguments, _worker_class=Worker, _ignore_errors=quiet)
    if failed is not None:
        worker.errored.connect(failed)
    return worker


class Worker(GeneratorWorker[Any, Any, Any]):  # type: ignore[misc]  # untyped in napari
    """Ends its generator with itself: napari keeps all workers, and so what they work on."""

    def __init__(self, work: Callable[..., Any], *arguments: Any) -> None:
        self._steps = _steps(work, arguments)
        super().__init__(_each, self._steps)

    def work(self) -> Any:
        """Run it; however it ends, its variables are let go of in its own thread."""
        try:
            return super().work()
        finally:
            self._steps.close()


def _each(steps: Steps) -> Steps:
    return (yield from steps)


def _steps(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Steps:
    given = work(*arguments)
    if isinstance(given, Generator):
        return (yield from given)
    return given
