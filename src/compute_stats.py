"""Put latent statistics into a copy of a checkpoint: python src/compute_stats.py --checkpoint C --output FILE."""

from unirae.app.compute_stats import main

if __name__ == "__main__":
    raise SystemExit(main())
