"""Build a reference for scores: python src/make_reference.py --data DIR --size 256 --output reference.npz."""

from unirae.app.make_reference import main

if __name__ == "__main__":
    raise SystemExit(main())
