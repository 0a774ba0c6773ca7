"""Checkpoints and the folders that models are exported to.

A file is opened by :func:`~.reading.open_checkpoint`; its :class:`~.reading.Checkpoint` says kind, step and
configuration without reading a tensor. Networks are built from it by :func:`~.opening.load_rae` and
:func:`~.opening.load_dit`.
"""
