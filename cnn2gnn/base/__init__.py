"""What all rooms stand on: checked values, whole files, names that may be folders."""
