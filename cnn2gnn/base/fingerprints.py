"""What identifies objects and code of the user's own: a run goes on with no other."""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnn2gnn.base.files import module_hash

KNOWN = ("torch", "torchvision", "cnn2gnn")  # their versions are remembered beside
_PLAIN = (bool, int, float, str, bytes, complex, type(None))


def fingerprint(thing: Any) -> str:
    """Kind and hash of an object, the same in every process.

    Of a module every weight counts, its own code and plain attributes; of a function its source,
    its defaults, the values that it has kept (of a closure, a partial) and what it uses of its own
    file: numbers, texts, functions, classes; of another object its class and its attributes.
    """
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    return f"{name} {hashlib.sha256(_told(thing, frozenset()).encode()).hexdigest()[:16]}"


def _told(thing: Any, above: frozenset[int]) -> str:
    """All that counts of a thing, as text; `above`: what it is a part of, by id."""
    if isinstance(thing, _PLAIN):
        return repr(thing)
    if id(thing) in above:
        return "itself"
    tell = functools.partial(_told, above=above | {id(thing)})
    if isinstance(thing, nn.Module):
        return "".join([module_hash(thing), *(tell(part) for part in _foreign(thing))])
    if isinstance(thing, Tensor):
        values = thing.detach().cpu().contiguous().flatten().view(torch.uint8)
        return f"{thing.dtype} {tuple(thing.shape)} {_hash(values.numpy().tobytes())}"
    if isinstance(thing, functools.partial):
        return tell(["partial", thing.func, thing.args, thing.keywords])
    if isinstance(thing, types.FunctionType):
        kept = [inspect.getclosurevars(thing).nonlocals, _beside(thing)]
        return tell([_source(thing), thing.__defaults__, thing.__kwdefaults__, *kept])
    if isinstance(thing, types.MethodType):
        return tell([thing.__func__, thing.__self__])
    if isinstance(thing, type):
        return _source(thing)
    if isinstance(thing, Mapping):
        return tell([[key, thing[key]] for key in sorted(thing, key=str)])
    if isinstance(thing, list | tuple):
        return f"[{', '.join(map(tell, thing))}]"
    if isinstance(thing, set | frozenset):
        return tell(sorted(map(tell, thing)))
    if getattr(getattr(thing, "dtype", None), "hasobject", False):  # numpy: its bytes are addresses
        return tell(thing.tolist())
    if hasattr(thing, "tobytes"):  # of numpy, whose repr leaves numbers out
        return f"{getattr(thing, 'shape', '')} {_hash(thing.tobytes())}"
    if hasattr(thing, "__dict__"):
        return tell([type(thing), vars(thing)])
    said = repr(thing)
    return _named(thing) + ("" if " at 0x" in said else said)


def _foreign(module: nn.Module) -> list[Any]:
    """Classes and plain attributes of those parts of a module that no known package has made."""
    parts = [m for m in module.modules() if type(m).__module__.split(".")[0] not in KNOWN]
    own = {*vars(nn.Module())}  # `training`, hooks and the like
    return [
        [type(part), {n: v for n, v in vars(part).items() if n not in own and _is_plain(v)}]
        for part in parts
    ]


def _beside(function: types.FunctionType) -> dict[str, Any]:
    """The globals that a function uses which are plain values, or code of the same file."""
    codes = [function.__code__]
    for code in codes:  # and what is compiled within it: comprehensions, lambdas
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
    used = {name for code in codes for name in code.co_names} & {*function.__globals__}

    def counts(value: Any) -> bool:
        code = isinstance(value, types.FunctionType | type)
        return _is_plain(value) or (code and value.__module__ == function.__module__)

    values = {name: function.__globals__[name] for name in sorted(used)}
    return {name: value for name, value in values.items() if counts(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _source(thing: Any) -> str:
    """Source of a function or class; if there is none, what it was compiled to, or its name."""
    code = getattr(thing, "__code__", None)
    try:
        return inspect.getsource(thing.__code__ if _is_around(thing) else thing)
    except (OSError, TypeError):  # typed into a console, built in
        return _named(thing) if code is None else _compiled(code)


def _is_around(thing: Any) -> bool:
    """Whether a decorator of the user's own has made it: `inspect` shows what is within alone."""
    if not isinstance(thing, types.FunctionType) or not hasattr(thing, "__wrapped__"):
        return False
    return thing.__globals__.get("__name__", "").split(".")[0] not in KNOWN


def _compiled(code: types.CodeType) -> str:
    constants = [_compiled(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _named(thing: Any) -> str:
    """A name that is the same in every process: no address is in it."""
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
