"""The way in by ``python -m napari_tokensparse``, where ``tokensparse`` is on no path."""

from napari_tokensparse.commands.app import main

if __name__ == "__main__":
    main()
