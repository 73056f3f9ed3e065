"""What a model costs: from a graph or a trace to one row for each layer, and the rules that price operators."""
