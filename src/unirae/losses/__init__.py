"""What training minimises: perceptual and adversarial terms, their balance, differentiable augmentation."""
