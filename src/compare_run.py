"""Compare a run's curves with those of healthy runs or of another: python src/compare_run.py --run DIR."""

from unirae.app.compare_run import main

if __name__ == "__main__":
    raise SystemExit(main())
