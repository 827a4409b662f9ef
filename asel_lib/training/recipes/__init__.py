"""TEMPORARY: until the recipes' own files are merged."""
