"""The conventions that every room of the house shares, written once.

- **Images** are RGB, ``Float[Tensor, "b 3 H W"]`` in [0, 1] at every boundary; a data loader hands over
  uint8 in [0, 255] (:func:`unirae.core.images.to_float` is the door between the two).
  Perceptual nets and discriminators that want [-1, 1] convert inside.
- **Latents** are ``Float[Tensor, "b c h w"]``: an encoder's tokens transposed to a grid, row by row.
- **Time**: t = 0 is data, t = 1 is noise.
- **Ownership**: an encoder owns its pixel mean and std; the RAE owns the latent statistics.
- **A step** is one update of the generator (or of the DiT); every schedule, interval and log counts it.
"""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LATENT_EPS = 1e-5
"""ε in (z − mean) / √(var + ε), RAE paper, section 3; the one owner of this constant."""
