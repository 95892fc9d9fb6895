"""One module per stage, each with `run` (and `validate` where something must hold first).

`run` may be called again after a crash anywhere inside it: it asks the shards what is there and does the rest.
What the stages made is undone by `foreshard.migration.teardown`, whichever stage gave up.
"""
