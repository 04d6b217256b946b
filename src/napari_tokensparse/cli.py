"""The command line, as ``python -m napari_tokensparse.cli`` starts it: see `commands.app`."""

from napari_tokensparse.commands.app import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
