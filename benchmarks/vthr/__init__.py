"""A small ViT Tree Heritage Recovery dataset (VTHR), trained on a CPU: scripts/vthr."""
