"""Reconstruct your own images: python src/reconstruct.py --checkpoint C --images DIR|FILE…"""

from unirae.app.reconstruct import main

if __name__ == "__main__":
    raise SystemExit(main())
