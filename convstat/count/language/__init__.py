"""The figures of models that take tokens, from a trace: attention, experts, embeddings and caches."""
