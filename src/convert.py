"""Models of other programs, in and out: python src/convert.py --from rae --config OFFICIAL.yaml --output DIR."""

from unirae.app.convert import main

if __name__ == "__main__":
    raise SystemExit(main())
