"""What each image call means: found on the node, pulled from the best registry, named after it."""
