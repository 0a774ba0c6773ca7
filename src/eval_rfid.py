"""Score a stage-1 checkpoint: python src/eval_rfid.py --checkpoint C."""

from unirae.app.eval_rfid import main

if __name__ == "__main__":
    raise SystemExit(main())
