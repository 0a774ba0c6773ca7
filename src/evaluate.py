"""Score images against a reference: python src/evaluate.py --images A --reference B --metrics fid,is."""

from unirae.app.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
