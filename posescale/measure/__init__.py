"""What a model costs: counted (`cost`), timed (`latency`) and weighed (`memory`). Nothing here names a model."""
