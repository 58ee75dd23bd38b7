"""Training on: the MAE on new video, the ViT on a task."""
