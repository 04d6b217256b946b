"""A process that runs Python in processes of its own, forked off, with what segments imported.

Importing them takes seconds, and they are the same for every command of every test. Each job is
one line of JSON on stdin: the arguments of Python (``-m MODULE …`` or ``SCRIPT …``), folder,
environment and the files that take stdout and stderr. The answer is the exit status, a line on
stdout.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback


def do(job: dict[str, object]) -> int:
    """Run a job in this process, and return its exit status."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    for stream, path in ((1, job["stdout"]), (2, job["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    kind, *rest = job["arguments"]
    sys.argv = rest if kind == "-m" else [kind, *rest]
    try:
        if kind == "-m":
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Serve until stdin ends."""
    import monai  # noqa: F401
    import torch  # noqa: F401

    import napari_tokensparse.outputs.runfiles
    import napari_tokensparse.segmenting.infer  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = do(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
