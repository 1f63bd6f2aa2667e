"""What modules do in ``forward`` beside calling others, as their source says: weights they read, ReLUs they call.

A weight that something else than its layer's own ``forward`` reads would stay latent, in float.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import CodeType, FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Source", "source_of"]

Path = tuple[str, ...]  # attributes and indices on the way from a module to one below it; "*" is any

ABOUT = {"device", "dim", "dtype", "ndim", "numel", "requires_grad", "shape", "size"}  # of a weight, not its values
HARMLESS = {"checkpoint", "getattr", "hasattr", "isinstance", "print", "type"}  # functions that take a layer
RELU = {"relu", "relu_", "relu6"}
RELUS = (F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, torch.Tensor.relu)


@dataclass
class Source:
    """What the source of a method, or of a network's methods, says."""

    reads: dict[Any, str] = field(default_factory=dict)  # paths, or names of modules, and who reads their weights
    relus: dict[str, None] = field(default_factory=dict)  # who calls ReLU as a function, in order
    hidden: dict[str, None] = field(default_factory=dict)  # who takes some weight, in a source that is not to be had
    handed: dict[Any, str] = field(default_factory=dict)  # the same of those that are handed to a function, not called
    calls: set[Path] = field(default_factory=set)  # what may be methods of modules below
    called: set[Any] = field(default_factory=set)  # paths, or names, of what is called


def source_of(model: nn.Module) -> Source:
    """What the ``forward`` of each module of a network does, and the methods that it calls."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found = Source()
    todo = [(name, "forward") for name in modules]
    seen = set(todo)
    for name, method in todo:
        module = modules[name]
        said = _scanned(type(module), method)
        found.relus |= said.relus
        found.hidden |= said.hidden
        for kept, paths in ((found.reads, said.reads), (found.handed, said.handed)):
            for path, who in paths.items():
                kept |= dict.fromkeys(_below(modules, name, path), who)
        found.called |= {below for path in said.called for below in _below(modules, name, path)}
        for *path, other in said.calls:
            for below in _below(modules, name, tuple(path)):
                if (below, other) not in seen and _defined(type(modules[below]), other):
                    seen.add((below, other))
                    todo.append((below, other))
        functions = [key for key, value in vars(module).items() if any(value is each for each in RELUS)]
        if not _torchs(type(module)):
            found.relus |= dict.fromkeys(f"{type(module).__name__}.{key}" for key in functions)
    found.handed = {name: who for name, who in found.handed.items() if name not in found.called}
    return found


def _below(modules: dict[str, nn.Module], name: str, path: Path) -> list[str]:
    """The names of the modules at a path from another."""
    whole = ".".join([*([name] if name else []), *path])
    if "*" not in path:
        return [whole] if whole in modules else []
    return [each for each in modules if each.count(".") == whole.count(".") and fnmatchcase(each, whole)]


def _torchs(kind: type) -> bool:
    return kind.__module__.startswith("torch.")


def _defined(kind: type, name: str, after: type | None = None) -> tuple[type, FunctionType] | None:
    """The class that defines a method, of ``kind`` and what it inherits before ``nn.Module``, and the function."""
    classes = [each for each in kind.__mro__ if not issubclass(nn.Module, each)]
    for owner in classes[classes.index(after) + 1 if after in classes else 0 :]:
        if name in vars(owner):
            value = vars(owner)[name]
            for inner in ("fget", "func", "__func__"):  # of properties, cached ones, static and class methods
                value = getattr(value, inner, value)
            value = inspect.unwrap(value) if callable(value) else value
            return (owner, value) if isinstance(value, FunctionType) else None
    return None


@functools.cache
def _scanned(kind: type[nn.Module], entry: str) -> Source:
    """A method of a class, and what it calls of the class."""
    found = Source()
    todo = _entries(kind, entry)
    for owner, function in todo:
        who = f"{kind.__name__}.{function.__name__}"
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        except (OSError, TypeError, SyntaxError):  # typed at a prompt, made by exec, a lambda amid other code
            if "weight" in _names(function.__code__):
                found.hidden[who] = None
            continue
        said = _Reader(tree)
        found.reads |= dict.fromkeys(said.reads, who)
        found.handed |= dict.fromkeys(said.handed, who)
        found.called |= said.called
        found.calls |= {path for path in said.paths if len(path) > 1}
        if said.relu and not _torchs(owner):
            found.relus[who] = None
        others = [_defined(kind, path[0]) for path in said.paths if len(path) == 1]
        others += [_defined(kind, name, after=owner) for name in said.supers]
        todo += [other for other in dict.fromkeys(others) if other is not None and other not in todo]
    return found


def _entries(kind: type[nn.Module], entry: str) -> list[tuple[type, FunctionType]]:
    """A method; of a class without ``forward``, whose parts are called from elsewhere, each one."""
    found = _defined(kind, entry)
    if found is not None or entry != "forward":
        return [found] if found else []
    names = [name for each in kind.__mro__ if not issubclass(nn.Module, each) for name in vars(each)]
    methods = [_defined(kind, name) for name in names if not name.startswith("__")]
    return [each for each in dict.fromkeys(methods) if each]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


class _Reader:
    """One function, read from its first line to its last: what it takes from ``self``, also by other names.

    A name keeps all that it was bound to, so that no branch is missed.
    """

    def __init__(self, tree: ast.AST) -> None:
        self.reads: set[Path] = set()
        self.paths: set[Path] = set()
        self.called: set[Path] = set()
        self.handed: set[Path] = set()
        self.supers: set[str] = set()
        self.relu = False
        arguments = getattr(tree, "args", None)
        self.known: dict[str, set[Path]] = {arguments.args[0].arg: {()}} if arguments and arguments.args else {}
        nodes = list(ast.walk(tree))
        harmless = {id(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr in ABOUT}
        harmless |= {id(node.args[0]) for node in nodes if isinstance(node, ast.Call) and _name(node) == "isinstance"}
        for node in nodes:
            if isinstance(node, ast.comprehension):  # its names are used before it
                self._loop(node.target, node.iter)
        for node in sorted((n for n in nodes if hasattr(n, "lineno")), key=lambda n: (n.lineno, n.col_offset)):
            if isinstance(node, ast.Assign):
                self._assign(node.targets[0], node.value)
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                self._assign(node.target, node.value)
            elif isinstance(node, ast.For):
                self._loop(node.target, node.iter)
            elif isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, ast.Attribute):
                self._attribute(node, id(node) in harmless)

    def _paths(self, node: ast.AST | None) -> set[Path]:
        """The ways from ``self`` to a value; none to a value that is made."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id, set())
        if isinstance(node, ast.IfExp):
            return self._paths(node.body) | self._paths(node.orelse)
        if isinstance(node, ast.Attribute):
            return {(*above, node.attr) for above in self._paths(node.value)}
        if isinstance(node, ast.Subscript):
            above = self._paths(node.value)
            index = str(node.slice.value) if isinstance(node.slice, ast.Constant) else "*"
            return above if isinstance(node.slice, ast.Slice) else {(*each, index) for each in above}
        return set()

    def _assign(self, target: ast.AST, value: ast.AST) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, other in zip(target.elts, value.elts, strict=False):
                self._assign(each, other)
        elif isinstance(target, ast.Name):
            self.known[target.id] = self.known.get(target.id, set()) | self._paths(value)

    def _loop(self, target: ast.AST, over: ast.AST) -> None:
        sources = [over]
        if isinstance(over, ast.Call):  # self.layers.items(), enumerate(self.layers), zip(self.layers, self.norms)
            sources = [*over.args, getattr(over.func, "value", None)]
        paths = {(*path, "*") for source in sources for path in self._paths(source)}
        for name in ast.walk(target):
            if isinstance(name, ast.Name):
                self.known[name.id] = self.known.get(name.id, set()) | paths

    def _call(self, node: ast.Call) -> None:
        made = node.func.func if isinstance(node.func, ast.Call) else None  # nn.ReLU()(x)
        if _name(node) in RELU and not self._paths(node.func) or _named(made) in ("ReLU", "ReLU6"):
            self.relu = True
        self.called |= self._paths(node.func)
        if _name(node) not in HARMLESS:
            self.handed |= {path for each in node.args for path in self._paths(each) if path}
        if _name(node) == "getattr" and len(node.args) > 1 and getattr(node.args[1], "value", "") == "weight":
            self.reads |= self._paths(node.args[0]) - {()}

    def _attribute(self, node: ast.Attribute, harmless: bool) -> None:
        above = self._paths(node.value)
        self.paths |= {(*path, node.attr) for path in above}
        if node.attr == "weight" and not harmless:
            self.reads |= above - {()}
        if isinstance(node.value, ast.Call) and _name(node.value) == "super":
            self.supers.add(node.attr)


def _name(call: ast.Call) -> str:
    return _named(call.func)


def _named(node: ast.AST | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
