"""Results as text: one file per format; ``formats`` is the table of them."""
