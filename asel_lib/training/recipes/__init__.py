"""The recipes: each module registers one, `registry.RECIPES` finds them."""
