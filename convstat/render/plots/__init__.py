"""Comparisons as pictures: ``chart`` says what is drawn, ``draw`` draws it, ``formats`` are the files."""
