"""torchscan: MACs and FLOPs of the modules that it crawls."""
