"""Scores: Fréchet distances, Inception Score, kernel distance, precision and recall, PSNR, SSIM, LPIPS, and the feature
extractors below them.

:func:`unirae.score` is what a program needs; docs/library.md shows it.
"""
