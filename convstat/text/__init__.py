"""Text from elsewhere: read up to a limit, and written so that nothing in it acts on a terminal or in a document."""
