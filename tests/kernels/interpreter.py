"""Triton's interpreter, without what it does over again."""

import functools
import inspect

import triton.language as tl
from triton.runtime import interpreter


def spare_repetitions(monkeypatch):
    """While a test runs, a launch patches Triton's language once, not at every call of a device function as well."""
    patch = interpreter._patch_lang
    scope = getattr(interpreter, "_LangPatchScope", None)

    def patch_unless_done(function):
        if scope is None or any(tl.core.is_builtin(language.load) for language in _languages(function)):
            return patch(function)
        return scope()

    monkeypatch.setattr(interpreter, "_patch_lang", patch_unless_done)


@functools.cache
def _languages(function):
    """The modules of Triton's language that a function's own module has."""
    known = (tl, tl.core)
    return [value for value in function.__globals__.values() if inspect.ismodule(value) and value in known]
