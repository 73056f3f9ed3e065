"""From a frozen result to text, a page or a picture; nothing here counts anything."""
