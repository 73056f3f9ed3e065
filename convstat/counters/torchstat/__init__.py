"""torchstat: Flops and MAdd of an image network."""
