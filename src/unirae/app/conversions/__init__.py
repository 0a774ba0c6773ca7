"""Between our models and the files of other projects."""
