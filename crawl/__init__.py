"""What exists, and its bytes: sources of models, readers of tensors, and the sketch of a tensor."""
