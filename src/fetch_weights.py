"""Fetch what an experiment loads, to carry it offline: python src/fetch_weights.py --experiment NAME --to DIR."""

from unirae.app.fetch_weights import main

if __name__ == "__main__":
    raise SystemExit(main())
