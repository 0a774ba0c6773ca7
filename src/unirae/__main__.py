"""``python -m unirae`` is ``unirae``."""

from unirae.app.main import main

raise SystemExit(main())
