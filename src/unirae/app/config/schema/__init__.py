"""The one table of what every configuration key may hold, and the check of a composed configuration against it.

| module | |
|---|---|
| ``kinds`` | types and ranges, how a value is read as one, and how it is described |
| ``table`` | the keys that every run has: trainer, callbacks, logger, paths |
| ``models`` | the keys below ``model``, by stage |
| ``data`` | the keys below ``data``, by source |
| ``check`` | a configuration against the table |
| ``names`` | the names next to a misspelt one |

**To add a key:** write it into its YAML file, and as a field of the same name into the class of its node, with a kind
out of ``kinds``: ``clip_grad: NotNegative``. An argument that the YAML leaves out, which ``+node.key=value`` sets, has
the default ``LEFT_OUT``. A new file of a group with other keys is a new class; what tells the classes of a node apart
is their ``_target_``, ``kind`` or ``stage``, a ``Literal``. ``tests/app/config/test_schema.py`` fails where table and
YAML differ.
"""
