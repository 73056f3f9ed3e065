"""ptflops: an adapter for both of its backends, and what each of them counts."""
