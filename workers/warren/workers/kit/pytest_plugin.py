"""The pytest fixture `plugin_test_framework`, which pytest finds by itself where Warren is installed.

Every run of pytest on such a machine imports this module, so that it imports nothing of Warren before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from warren.plugins.testing import PluginTestFramework


@pytest.fixture
def plugin_test_framework() -> Iterator[PluginTestFramework]:
    """A `warren.plugins.testing.PluginTestFramework` of the test's own; what it built without asyncio is closed."""
    try:
        from warren.plugins.testing import PluginTestFramework  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise pytest.UsageError(f"{error}: tests of plugins need pip install 'warren[worker]'") from error
    framework = PluginTestFramework()
    yield framework
    framework.close()
