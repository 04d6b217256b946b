"""The files of a training run, in its model folder."""

from __future__ import annotations

FOLDER = "training"
RUN_FILE = "run.yaml"
EVENTS_FILE = "events.jsonl"
PREVIEW_FILE = "preview.nii.gz"
STATE_FILE = "state.pt"
BEST_FILE = "best.pt"
