"""One training loop; recipes differ in their objective alone."""
