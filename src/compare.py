"""Two results of an evaluation side by side: python src/compare.py A.json B.json."""

from unirae.app.compare import main

if __name__ == "__main__":
    raise SystemExit(main())
