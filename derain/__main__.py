import sys

from derain.cli import main

sys.exit(main())
