"""Scores over guidance, steps, solvers and averages: python src/sweep_guidance.py --checkpoint C."""

from unirae.app.sweep_guidance import main

if __name__ == "__main__":
    raise SystemExit(main())
