"""Streaming scores: Fréchet distance, PSNR, SSIM, LPIPS, and the feature extractors below them."""
