"""A trained model as a folder for inference: python src/export.py --checkpoint C --output DIR."""

from unirae.app.export import main

if __name__ == "__main__":
    raise SystemExit(main())
