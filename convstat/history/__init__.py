"""What a model is compared with: bases in git, baseline files, and which layer became which."""
