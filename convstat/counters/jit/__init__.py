"""fvcore and torchprofile, which price the graph of torch.jit.trace, and that graph foreseen from our own trace."""
