"""How a decoder takes imperfect latents: python src/diagnose_rae.py --checkpoint C [--against D]."""

from unirae.app.diagnose_rae import main

if __name__ == "__main__":
    raise SystemExit(main())
