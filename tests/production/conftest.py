"""Time for whole clusters: a module's first test includes starting everything, and that alone may take START_S."""

from pathlib import Path

import pytest

WHOLE_S = 600.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every hook of a conftest sees all items, those of other directories too."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(WHOLE_S))
