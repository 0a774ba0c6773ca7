"""Code that diffusers runs from a folder that we wrote: its pipeline, transformer and autoencoder.

The only modules that import diffusers. They are never imported by others of ours: the export copies their source, with
all that it needs of this package, into the folder (:mod:`unirae.models.interop.standalone`).
"""
