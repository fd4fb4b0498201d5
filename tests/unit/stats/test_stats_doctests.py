"""Every example in the numeric layer's docstrings is true."""

import doctest
import importlib
import pkgutil

import pytest

import app.stats

MODULES = sorted(module.name for module in pkgutil.iter_modules(app.stats.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(f"app.stats.{name}")
    assert doctest.testmod(module).failed == 0


def test_the_numeric_layer_has_examples() -> None:
    modules = [importlib.import_module(f"app.stats.{name}") for name in MODULES]
    examples = sum(
        len(test.examples) for module in modules for test in doctest.DocTestFinder().find(module)
    )
    assert examples > 40
