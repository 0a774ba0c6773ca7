"""Keys and options by the arguments of the layers below, for messages about these."""

NAMES = {
    # keys of the configuration
    "dataset.": "data.",
    "loader.": "data.",
    "loader.batch_size": "data.global_batch_size",
    "source.": "data.source.",
    "source.data_dir": "data.data_dir",
    "source.labels": "data.labels",
    "text_encoder.": "model.text_encoder.",
    "source.caption_column": "data.caption_column",
    "source.missing_captions": "data.missing_captions",
    "FolderSource": "data=image_folder",
    "PhotosSource": "data=photos",
    "transform": "data.stage2_transform._target_",
    "mix.": "data.",
    "latent_cache": "data.latent_cache",
    "latent_cache.trust": "data.latent_cache_trust",
    "latent_cache.dtype": "data.latent_cache_dtype",
    "stage.": "model.",
    "decoder": "model/decoder",
    "decoder.": "model.decoder.",
    "denoiser": "model.dit",
    "denoiser.": "model.dit.",
    "discriminator.": "model.discriminator.",
    "encoder.": "model.encoder.",
    "perceptual": "model/perceptual",
    "perceptual.": "model.perceptual.",
    "generation_metrics.": "callbacks.generation_metrics.",
    "reconstruction_metrics.": "callbacks.reconstruction_metrics.",
    "training.": "trainer.",
    "loggers.": "logger.",
    "run.": "paths.",
    # options of commands
    "cache": "--cache",
    "checkpoint": "--checkpoint",
    "confidence": "--confidence",
    "encoder.kind": "--kind",
    "encoder_weights": "--encoder_weights",
    "encoder_pooling": "--encoder_pooling",
    "extractor": "--encoder",
    "fdr_references": "--fdr_references",
    "fdr_weights": "--fdr_weights",
    "metrics.": "--",
    "rae": "--rae",
    "reference": "--reference",
    "sampling.": "--",
    "size": "--size",
    "text_encoder": "--text_encoder",
    "weights": "--weights",
}

PREPARING = NAMES | {
    "prepare.": "--",
    "source.caption_column": "--caption_columns",
    "source.labels=false": "--flat",
    "source.train_split": "--train_split",
    "source.val_split": "--val_split",
}
"""The names for ``prepare_data.py``, whose data have no configuration yet."""

WITH_DATA_DIR = NAMES | {"source.data_dir": "--data_dir"}
"""The names for commands that take a checkpoint's data from another place by ``--data_dir``."""
