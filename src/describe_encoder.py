"""An encoder's shapes: python src/describe_encoder.py --encoder facebook/dinov2-base --image_size 224."""

from unirae.app.describe_encoder import main

if __name__ == "__main__":
    raise SystemExit(main())
