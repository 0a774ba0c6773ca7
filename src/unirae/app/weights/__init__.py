"""The weights that an experiment loads: which, from where, and their copy in a folder that can be carried."""
