"""ultralytics-thop: thop's successor, with rules of its own for attention, functions and what holds parameters."""
