"""Losses of training: perceptual and adversarial terms, their balance, differentiable augmentation."""
