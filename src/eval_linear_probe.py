"""Probe an encoder's features linearly: python src/eval_linear_probe.py --encoder_checkpoint C."""

from unirae.app.eval_linear_probe import main

if __name__ == "__main__":
    raise SystemExit(main())
