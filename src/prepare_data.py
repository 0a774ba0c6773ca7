"""Convert images to the Hugging Face format: python src/prepare_data.py --input DIR_OR_TAR --output DIR."""

from unirae.app.prepare_data import main

if __name__ == "__main__":
    raise SystemExit(main())
