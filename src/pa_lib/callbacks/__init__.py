"""What watches a training run: previews, averages of weights, progress."""
