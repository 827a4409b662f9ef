"""An order of the patches in which each is as far as can be from those before it."""

import numpy as np

SIGMA = 1.5  # patches: how far a patch that is taken keeps others away (void-and-cluster, Ulichney 1993)


def order(rows: int, columns: int) -> np.ndarray:
    """All patches of a grid in blue-noise order.

    Distances go round the edges, so that the corners are not taken first.

    Args:
        rows: of the grid.
        columns: of the grid.

    Returns:
        (rows * columns,) numbers of patches in raster order, the first taken first.
    """
    y, x = np.divmod(np.arange(rows * columns), columns)
    # Ties are broken by a fixed draw: else the order would run along the rows.
    near = 1e-3 * np.random.default_rng(0).random(rows * columns)
    taken = np.zeros(rows * columns, bool)
    found = []
    for _ in range(rows * columns):
        place = int(np.where(taken, np.inf, near).argmin())
        found.append(place)
        taken[place] = True
        dy, dx = abs(y - y[place]), abs(x - x[place])
        dy, dx = np.minimum(dy, rows - dy), np.minimum(dx, columns - dx)
        near += np.exp(-(dy**2 + dx**2) / (2 * SIGMA**2))
    return np.array(found)
