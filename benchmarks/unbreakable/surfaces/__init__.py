"""What can be given to the kit, surface by surface: for `fuzz.py`, and for tests."""
