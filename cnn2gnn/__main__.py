"""`python -m cnn2gnn`: the command line where its script is not on the path."""

import sys

from cnn2gnn.cli import main

sys.exit(main())
