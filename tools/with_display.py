"""Run a command with a display, bringing Xvfb and the GL libraries where there is none.

    python tools/with_display.py python -m pytest

On macOS, on Windows and where DISPLAY is set, the command runs as it is. Elsewhere it runs
under `xvfb-run`. What that needs is installed if this is Debian or Ubuntu and the user is
root; otherwise the script stops with exit status 1 and prints the line that installs it, so
that tests of the windows are never left out unnoticed.
"""

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

XVFB_RUN = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24"]

# What has to be there, and the Debian package that has it.
PROGRAMS = {"xvfb-run": "xvfb", "Xvfb": "xvfb", "xauth": "xauth"}
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
# The software renderer: a file of older Mesa versions, or of newer ones.
RENDERERS = ("dri/swrast_dri.so", "libgallium-*.so")
RENDERER_PACKAGE = "libgl1-mesa-dri"
PACKAGES = sorted({*PROGRAMS.values(), *LIBRARIES.values(), RENDERER_PACKAGE})
APT_LINE = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(PACKAGES)}"


def has_display() -> bool:
    """Say whether windows can be opened without any help."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY"))


def loads(library: str) -> bool:
    """Say whether the dynamic linker finds a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def has_renderer() -> bool:
    """Say whether Mesa's software renderer lies in one of the library folders."""
    roots = [Path("/usr/lib64"), Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-gnu*")]
    return any(any(root.glob(pattern)) for root in roots for pattern in RENDERERS)


def missing() -> list[str]:
    """Name the programs and libraries that Xvfb and Qt need and that are not here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [name for name in LIBRARIES if not loads(name)]
    return missing if has_renderer() else [*missing, "the Mesa software renderer"]


def can_install() -> bool:
    """Say whether packages can be installed here: apt-get, and the rights to use it."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install() -> None:
    """Install the packages; a failure shows in what is still missing afterwards."""
    print(f"No display: installing what Xvfb needs.\n  {APT_LINE}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["sh", "-c", APT_LINE], env=environment, stdin=subprocess.DEVNULL, check=False)


def explain(lacking: list[str]) -> str:
    """Say what is missing and which line installs it."""
    return (
        f"No display, and Xvfb cannot run: missing {', '.join(lacking)}.\n"
        "Set DISPLAY, or install them as root (Debian, Ubuntu) with\n"
        f"  {APT_LINE}"
    )


def main(command: list[str]) -> int:
    """Run the command with a display and return its exit status."""
    if not command:
        print(f"usage: python {sys.argv[0]} COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    if has_display():
        return subprocess.call(command)
    if missing() and can_install():
        install()
    lacking = missing()
    if lacking:
        print(explain(lacking), file=sys.stderr)
        return 1
    print(f"No display: {shlex.join([*XVFB_RUN, *command])}", flush=True)
    return subprocess.call([*XVFB_RUN, *command])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
