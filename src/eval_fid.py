"""Sample and score a stage-2 checkpoint: python src/eval_fid.py --checkpoint C."""

from unirae.app.eval_fid import main

if __name__ == "__main__":
    raise SystemExit(main())
