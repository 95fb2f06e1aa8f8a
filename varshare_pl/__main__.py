"""``python -m varshare_pl`` is ``varshare``."""

import sys

from varshare_pl.cli.main import main

sys.exit(main())
