"""The stages of the pipeline, one class and one file each, all with `push`, `flush` and `reset`."""
