"""DeepSpeed's flops profiler, and calflops, which was made of it: the functions that they replace."""
