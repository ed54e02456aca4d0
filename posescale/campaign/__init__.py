"""All measuring that wants a GPU, in the order of its worth, within given minutes; a later call goes on from there."""
