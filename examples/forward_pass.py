"""Run the network on a tensor and look at its trace."""

import torch

from napari_tokensparse import load_model

model = load_model("brain-structures")
image = torch.randn(1, model.config.in_channels, *model.config.window)
with torch.inference_mode():
    out = model(image, keep_ratio=[0.5, 0.25, 1.0])  # one keep ratio per stage

print("logits", tuple(out.logits.shape))
for stage, (scores, pruned) in enumerate(zip(out.trace.scores, out.trace.pruned, strict=True), 1):
    print(f"stage {stage}: {scores.shape[1]} tokens scored, {pruned.shape[1]} pruned")
print(f"{out.trace.kept.shape[1]} tokens kept: {out.trace.kept[0, :8].tolist()} …")
