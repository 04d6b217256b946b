"""What every test shares."""

import os

# No test, nor a process that it starts, reads or writes the settings of the person's own napari.
os.environ["NAPARI_CONFIG"] = ""
