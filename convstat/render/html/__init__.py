"""The HTML document: a page that needs nothing but itself."""
