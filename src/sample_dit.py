"""Sample images: python src/sample_dit.py --checkpoint C --num_samples 100 --cfg_scale 2.0 --output_dir D."""

from unirae.app.sample_dit import main

if __name__ == "__main__":
    raise SystemExit(main())
