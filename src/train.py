"""Train an experiment: python src/train.py experiment=NAME [key=value …]."""

from unirae.app.train import main

if __name__ == "__main__":
    raise SystemExit(main())
