"""Keeps out of memory what a library imports and this program never uses."""

import importlib
import sys
from types import ModuleType
from typing import Any


def defer(package: str, module: str) -> None:
    """Have `package.module` loaded when something of it is first used; an import statement alone does not load it.

    Void where it is loaded already. (importlib's LazyLoader will not do: the statement looks into the module.)
    """
    name = f"{package}.{module}"
    if name not in sys.modules:
        sys.modules[name] = stand_in = _StandIn(name)
        setattr(importlib.import_module(package), module, stand_in)


class _StandIn(ModuleType):
    """Gives way to the module it stands in for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
