"""Many scans on dask.distributed: a cluster of this machine's processes, or one that is there."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

from napari_tokensparse.common.extras import lacking
from napari_tokensparse.common.surroundings import quiet_libraries
from napari_tokensparse.manyscans.cases import ManyScansError
from napari_tokensparse.manyscans.scans import ScanResult, check_work, said_of, segment_scan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client, Future

    from napari_tokensparse.manyscans.cases import ScanCase
    from napari_tokensparse.manyscans.scans import Work

_CORES_PER_WORKER = 4
_CONNECT_SECONDS = 10
_ANY_PORT = "127.0.0.1:0"  # dask's own would be taken where many scans run twice at once

# A worker of someone's cluster may have many threads, and a scan uses them all.
_one_scan_at_a_time = Lock()


@dataclass(frozen=True)
class ClusterOptions:
    """Where many scans are run.

    Attributes
    ----------
    scheduler
        Address of a cluster that is there, ``tcp://host:8786``; None starts one on this machine.
    workers
        Processes of this machine's cluster, which share its cores; one per four cores, and no more
        than there are scans, if not given.
    retries
        How often a scan is tried again when memory or a disk fails it, or its worker dies.
    threads
        Of each worker; if not given, its share of the cores.

    Raises
    ------
    ManyScansError
        A number is out of its range, or workers are asked of a cluster that is there.
    """

    scheduler: str | None = None
    workers: int | None = None
    retries: int = 2
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no cluster can do."""
        if self.workers is not None and self.workers < 1:
            raise ManyScansError(f"workers {self.workers}: must be 1 or more")
        if self.retries < 0:
            raise ManyScansError(f"retries {self.retries}: must be 0 or more")
        if self.scheduler is not None and self.workers is not None:
            raise ManyScansError(
                f"workers {self.workers}: the cluster at {self.scheduler} has its own; give one of "
                "the two"
            )


def segmenting_scans(
    cases: Sequence[ScanCase], work: Work, options: ClusterOptions
) -> Iterator[ScanResult]:
    """Segment scans side by side.

    Parameters
    ----------
    cases
        The scans; every machine of the cluster sees their files and the output folder under the
        same paths.
    work
        What is done to each.
    options
        Where.

    Yields
    ------
    ScanResult
        One per scan, as they finish. Closing the generator ends this machine's cluster; files that
        are not finished are removed.

    Raises
    ------
    ManyScansError
        In one line: dask.distributed is not installed, or the cluster cannot be reached.
    """
    if find_spec("distributed") is None:
        raise ManyScansError(lacking("a run of many scans", "dask.distributed", "cluster"))
    unfinished = TemporaryDirectory(
        prefix=".tokensparse-", dir=work.folder, ignore_cleanup_errors=True
    )
    with (
        unfinished as parts,
        _connected(len(cases), options) as (client, threads),
    ):
        each = replace(work, parts=Path(parts), threads=options.threads or threads)
        yield from _run(client, cases, each, options)


def _run(
    client: Client, cases: Sequence[ScanCase], work: Work, options: ClusterOptions
) -> Iterator[ScanResult]:
    from distributed import as_completed

    # Keys are seen in logs and dashboards: they number the scans rather than name them.
    keys = [f"{work.parts.name}-{number}" for number in range(len(cases))]
    case_of = dict(zip(keys, cases, strict=True))
    checked = client.submit(check_work, work, key=f"{work.parts.name}-check")
    futures = client.map(_segment, cases, work=work, key=keys, retries=options.retries)
    _refuse(checked.exception())  # here, before each scan fails of the same
    for future in as_completed(futures, loop=client.loop):
        yield _result(future, case_of[future.key])
        future.release()


def _segment(case: ScanCase, work: Work) -> ScanResult:
    """Segment one scan in a worker."""
    from distributed import get_worker

    quiet_libraries()
    with _one_scan_at_a_time:
        threads = work.threads or get_worker().state.nthreads
        return segment_scan(case, replace(work, threads=threads))


def _refuse(error: BaseException | None) -> None:
    if isinstance(error, ValueError):
        raise error
    if error is not None:
        raise ManyScansError(f"the model could not be loaded: {_reason(error)}") from error


def _result(future: Future[ScanResult], case: ScanCase) -> ScanResult:
    error = future.exception()
    if error is not None:
        return ScanResult(case, "failed", error=_reason(error))
    result: ScanResult = future.result()
    return result


def _reason(error: BaseException) -> str:
    """Say in one line what failed each time that it was tried."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return "the worker died each time, perhaps for want of memory; use fewer workers"
    return said_of(error)


@contextmanager
def _connected(scans: int, options: ClusterOptions) -> Iterator[tuple[Client, int | None]]:
    """Give a client, and threads per worker; None where the workers know."""
    if options.scheduler is None:
        with _local_cluster(scans, options) as connected:
            yield connected
    else:
        with _client(options.scheduler) as client:
            yield client, None


@contextmanager
def _local_cluster(scans: int, options: ClusterOptions) -> Iterator[tuple[Client, int]]:
    import logging

    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster

    workers = options.workers or max(1, min(scans, CPU_COUNT // _CORES_PER_WORKER))
    settings = {
        "distributed.scheduler.allowed-failures": options.retries,
        # Scans wait at the scheduler: one that kills its worker then fails no other.
        "distributed.scheduler.worker-saturation": 1.0,
    }
    with dask.config.set(settings):
        try:
            started = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": _ANY_PORT},
                silence_logs=logging.CRITICAL,
            )
        except (OSError, RuntimeError) as error:
            raise ManyScansError(
                f"processes for many scans cannot be started here ({_root(error)}); check TMPDIR "
                "and the limits of this account, or segment the scans one by one"
            ) from error
        with started as cluster, Client(cluster, set_as_default=False) as client:
            yield client, max(1, CPU_COUNT // workers)


def _root(error: BaseException) -> str:
    """Say in a line what is behind an error of dask's, which hands on others'."""
    while (behind := error.__cause__ or error.__context__) is not None:
        error = behind
    return said_of(error)


@contextmanager
def _client(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ManyScansError(
            f"scheduler {address}: cannot be reached; start one with `dask scheduler`"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise ManyScansError(
                f"scheduler {address}: has no workers; start some with `dask worker {address}`"
            )
        yield client
