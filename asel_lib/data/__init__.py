"""Image sets: what exists and where it comes from, decoded once, split once, batched on the device."""
